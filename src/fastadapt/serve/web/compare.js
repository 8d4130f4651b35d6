/** The same task given to every method, side by side. */
import { bars, sureness, tones } from "./answer.js";
import { ceiling, chart } from "./chart.js";
import { $, h, inFrame, keyed, s } from "./element.js";

function panel(task, board) {
  return (method) => {
    const plot = s("svg", { class: "chart", role: "img", hidden: true });
    const [list, word, about] = [h("ol", { class: "bars" }), h("p", { class: "word" }), h("p", { class: "about" }, method.about)];
    const node = h("li", { class: "method" }, h("h3", {}, method.title), about, list, word, plot);
    const update = () => {
      const run = board.others.get(method.name);
      const line = board.line(run);
      const chances = board.chances(task.asked, line, run);
      node.dataset.waiting = String(!line);
      list.hidden = !chances;
      if (chances) bars(list, run, chances, run.lines.length > 1 ? board.before(task.asked, run) : null, tones(task));
      if (run?.trouble) word.textContent = `It went astray: ${run.trouble}.`;
      else word.textContent = line ? (chances ? `${sureness(chances)} · loss ${line.loss.toFixed(2)}` : `loss ${line.loss.toFixed(2)}`) : "Waiting for its turn…";
      if (!line) return;
      const values = run.lines.map((each) => each.loss);
      if (values.length > 1 || run.done) plot.toggleAttribute("hidden", values.length < 2); // a method without steps has no curve
      if (values.length < 2) return;
      const top = ceiling([...board.others.values()].flatMap((each) => each.lines.map((row) => row.loss)));
      const steps = run.done ? values.length - 1 : Math.max(values.length - 1, run.steps);
      chart(plot, { series: [{ values, tone: "loss" }], steps, at: Math.min(line.step, values.length - 1), top, format: (v) => v.toFixed(1) });
      plot.setAttribute("aria-label", `Loss of ${method.title}: ${values[0].toFixed(2)} before, ${values.at(-1).toFixed(2)} after`);
    };
    return { node, update };
  };
}

export function mountCompare(task, board) {
  const create = panel(task, board);
  const draw = inFrame(() => {
    const on = task.settings.compare;
    $("compared").hidden = !on;
    const methods = board.model(task.settings.model)?.methods ?? [];
    keyed($("methods"), on ? methods.map((method) => ({ ...method, id: method.name })) : [], create);
  });
  task.on(draw);
  board.on(draw);
  draw();
}
