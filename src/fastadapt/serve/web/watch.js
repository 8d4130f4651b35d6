/** "Watch it learn": the steps of the inner loop, looked at one by one without computing them again. */
import { percent, ranked, tones } from "./answer.js";
import { ceiling, chart, scrub } from "./chart.js";
import { $, h, icon, inFrame, keyed, label } from "./element.js";

/** Return a function that starts and stops the walk from step 0 to the last one. */
export function player(board, last) {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    board.tell("board");
  };
  const start = () => {
    const { run } = board;
    board.set({ at: 0 });
    timer = setInterval(() => {
      if (board.run !== run) return stop();
      board.at = (board.at ?? last()) + 1;
      if (board.at >= last()) {
        board.at = null;
        stop();
      } else board.tell("board");
    }, Math.min(450, Math.max(70, 2200 / last())));
  };
  return { toggle: () => (timer ? stop() : last() && start()), stop: () => timer && stop(), playing: () => timer > 0 };
}

function story(board, task) {
  const { run } = board;
  const first = board.chances(task.asked, run.lines[0], board.run);
  const now = board.chances(task.asked, board.line(board.run), board.run);
  if (!first) return run.stepping ? "Draw a question above to see how the answer changes." : "This method takes no steps; draw a question above.";
  const [a, b] = [ranked(first)[0], ranked(now)[0]];
  if (!run.stepping) return `This method takes no steps: it has seen your drawings, and answers ${run.classes[b].name}, ${percent(now[b])}.`;
  const step = board.line(board.run).step;
  const guess = `Before the first step it guesses ${run.classes[a].name}, ${percent(first[a])}.`;
  return step ? `${guess} After ${step} ${step === 1 ? "step" : "steps"}: ${run.classes[b].name}, ${percent(now[b])}.` : guess;
}

function held(run, model) {
  if (run.heldOut !== null && run.heldOut !== undefined) {
    const before = run.stepping ? (run.heldOutBefore ?? null) : null; // a server of an older version does not tell
    const now = `Leave-one-out: ${percent(run.heldOut)} of your drawings are recognised when the network has not seen them`;
    return before === null ? `${now}.` : `${now}; ${percent(before)} before the first step.`;
  }
  const many = run.classes.some((row) => row.samples.length > 1);
  if (many) return run.done ? "The server had no time to leave each drawing out in turn." : "";
  return !model ? "" : "Give each class a second drawing, and each is tested in turn on a network that has not seen it.";
}

/** The name of a line in the chart, with its colour and pattern. */
function named() {
  const name = h("span", {});
  const node = h("li", {}, h("span", { class: "swatch" }), name);
  const update = (row) => {
    node.dataset.tone = row.tone;
    name.textContent = row.name;
  };
  return { node, update };
}

export function mountWatch(task, board) {
  const slider = $("step");
  const last = () => Math.max(0, (board.run?.lines.length ?? 0) - 1);
  const { toggle, stop, playing } = player(board, last);
  const look = (step) => {
    stop();
    board.set({ at: step >= last() ? null : step });
  };
  const play = $("play");
  play.addEventListener("click", toggle);
  slider.addEventListener("input", () => look(Number(slider.value)));
  for (const name of ["loss-chart", "belief-chart"]) scrub($(name), last, look);

  const draw = inFrame(() => {
    const { run } = board;
    const line = board.line(board.run);
    $("watch").dataset.empty = String(!line);
    if (!line) return;
    $("player").hidden = $("charts").hidden = !run.stepping;
    const sign = playing() ? "pause" : "play";
    if (play.dataset.sign !== sign) {
      play.dataset.sign = sign;
      play.replaceChildren(icon(sign));
      label(play, playing() ? "Pause" : "Play the steps");
    }
    slider.max = last();
    slider.value = line.step;
    slider.disabled = last() === 0;
    slider.style.setProperty("--p", last() ? line.step / last() : 1);
    slider.setAttribute("aria-valuetext", `step ${line.step} of ${last()}, loss ${line.loss.toFixed(2)}`);
    const steps = Math.max(1, run.done ? last() : run.steps);
    $("step-now").textContent = `step ${line.step} of ${run.done ? last() : steps}`;
    $("story").textContent = story(board, task);
    $("held-out").textContent = held(run, board.model(task.settings.model));
    const losses = run.lines.map((each) => each.loss);
    chart($("loss-chart"), { series: [{ values: losses, tone: "loss" }], steps, at: line.step, top: ceiling(losses), format: (v) => v.toFixed(1) });
    $("loss-now").textContent = line.loss.toFixed(2);
    const colours = tones(task);
    const series = run.classes.map((row, index) => ({
      tone: colours.get(row.id) ?? 0,
      values: run.lines.map((each) => board.chances(task.asked, each, board.run)?.[index] ?? 0),
    }));
    const key = run.classes.map((row) => ({ id: row.id, name: row.name, tone: colours.get(row.id) ?? 0 }));
    keyed($("belief-key"), key, named);
    $("belief").hidden = !board.chances(task.asked, line, board.run);
    chart($("belief-chart"), { series, steps, at: line.step, top: 1, format: (v) => `${Math.round(100 * v)}` });
  });
  new ResizeObserver(draw).observe($("loss-chart"));
  task.on(draw);
  board.on(draw);
}
