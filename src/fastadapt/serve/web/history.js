/** Undo and redo, for each sample on its own. */
const histories = new Map();
const content = ({ strokes, image }) => ({ strokes, image });

function of(id) {
  if (!histories.has(id)) histories.set(id, { past: [], future: [] });
  return histories.get(id);
}

/** Edit a sample so that it can be undone. */
export function edit(task, id, change) {
  const { past, future } = of(id);
  past.push(content(task.sample(id)));
  future.length = 0;
  if (past.length > 100) past.shift();
  task.edit(id, change);
}

function step(task, id, from, to) {
  const history = of(id);
  if (!history[from].length) return;
  history[to].push(content(task.sample(id)));
  task.edit(id, history[from].pop());
}

export const undo = (task, id) => step(task, id, "past", "future");
export const redo = (task, id) => step(task, id, "future", "past");
export const undoable = (id) => of(id).past.length > 0;
export const redoable = (id) => of(id).future.length > 0;
