/** Undo and redo, for each sample on its own. */
const histories = new WeakMap(); // by the sample as it is now: it goes when the sample goes
const content = ({ strokes, image }) => ({ strokes, image });
const of = (sample) => histories.get(sample) ?? { past: [], future: [] };

function put(task, id, change, history) {
  task.edit(id, change);
  histories.set(task.sample(id), history);
}

/** Edit a sample so that it can be undone; one that is gone by now is left alone. */
export function edit(task, id, change) {
  const sample = task.sample(id);
  if (!sample) return;
  put(task, id, change, { past: [...of(sample).past.slice(-99), content(sample)], future: [] });
}

function step(task, id, from, to) {
  const sample = task.sample(id);
  const history = of(sample);
  if (!history[from].length) return;
  put(task, id, history[from].at(-1), { [from]: history[from].slice(0, -1), [to]: [...history[to], content(sample)] });
}

export const undo = (task, id) => step(task, id, "past", "future");
export const redo = (task, id) => step(task, id, "future", "past");
export const undoable = (sample) => of(sample).past.length > 0;
export const redoable = (sample) => of(sample).future.length > 0;
