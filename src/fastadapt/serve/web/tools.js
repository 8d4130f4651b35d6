/** A pad with its buttons: undo, redo, eraser, clear. */
import { h, tool } from "./element.js";
import { edit, redo, redoable, undo, undoable } from "./history.js";
import { Pad } from "./pad.js";
import { inked } from "./task.js";

// Not `disabled`: a button that is switched off under the keyboard's focus would lose it.
const able = (button, yes) => button.setAttribute("aria-disabled", String(!yes));

/** Return `{pad, node, update(sample)}` for a canvas; `current()` is the id of the sample it shows. */
export function padWithTools(task, session, canvas, current) {
  const toggle = () => {
    pad.erasing = !pad.erasing;
    eraser.setAttribute("aria-pressed", String(pad.erasing));
    canvas.dataset.erasing = String(pad.erasing);
  };
  const pad = new Pad(canvas, {
    sample: () => task.sample(current()),
    begin: () => session.hold(),
    change: (id, content) => edit(task, id, content),
    undo: () => undo(task, current()),
    redo: () => redo(task, current()),
    erase: toggle,
  });
  const back = tool("undo", "Undo", () => undo(task, current()));
  const forth = tool("redo", "Redo", () => redo(task, current()));
  const eraser = tool("eraser", "Eraser", toggle, { "aria-pressed": "false" });
  const clear = tool("clear", "Clear", () => inked(task.sample(current())) && pad.clear());
  const node = h("div", { class: "tools", role: "group", "aria-label": "Pen" }, back, forth, eraser, clear);
  const update = (sample) => {
    pad.show(sample);
    able(back, undoable(sample));
    able(forth, redoable(sample));
    able(clear, inked(sample));
  };
  return { pad, node, update };
}
