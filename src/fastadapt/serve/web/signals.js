/** The tab "Signals": a photograph or a sound, fitted from a learned start and from a random one, side by side. */
import { chart, scrub } from "./chart.js";
import { $, h, icon, inFrame, label } from "./element.js";
import { Fitting } from "./fitting.js";
import { Ear } from "./ear.js";
import { paint } from "./paint.js";
import { say } from "./status.js";
import { player } from "./watch.js";

const EXAMPLES = { "House by a lake": "photo", "A voice": "sound" };
const STEPS = [2, 5, 10, 20, 30, 50];
const SIDES = [32, 64, 96, 128];
const SECONDS = [0.5, 1, 1.5, 2, 3];
const ROWS = ["learned", "random"];
const decibels = (value) => `${value.toFixed(1)} dB`;
const counted = (steps) => `${steps} step${steps === 1 ? "" : "s"}`;

/** What the slider's step says. */
function story(run, step) {
  const [a, b] = ROWS.map((name) => run.lines[step][name].decibels);
  if (!step) return `Before the first step: ${decibels(a)} and ${decibels(b)}. Neither has seen the ${run.source.kind}.`;
  const said = `After ${counted(step)}: ${decibels(a)} from the learned start, ${decibels(b)} from a random one.`;
  if (a <= b) return `${said} By now the random start has caught up.`;
  const level = run.lines.findIndex((line) => line.random.decibels >= a);
  if (level > 0) return `${said} The random start needs ${counted(level)} for that.`;
  return run.done && step < run.lines.length - 1 ? `${said} Within ${counted(run.lines.length - 1)} the random start does not get there.` : said;
}

function options(select, values, chosen) {
  const key = values.join();
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...values.map((value) => h("option", { value }, String(value))));
  }
  select.value = String(chosen);
}

const upTo = (values, most, usual) => [...new Set([...values, usual])].filter((value) => value <= most).sort((a, b) => a - b);

function mountChoice(fitting) {
  const trouble = (text) => ($("choose-trouble").textContent = text);
  const take = async (file) => {
    trouble("");
    try {
      const { read } = await import("./sources.js");
      fitting.choose(await read(file));
    } catch (error) {
      trouble(error.message);
    }
  };
  const example = (name) => () => {
    trouble("");
    fitting.choose({ kind: EXAMPLES[name], name: `${name}, made by code`, body: { example: EXAMPLES[name] } });
  };
  $("signal-examples").append(...Object.keys(EXAMPLES).map((name) => h("button", { type: "button", class: "chip", onclick: example(name) }, name)));
  $("signal-file").addEventListener("click", async () => {
    const { pick } = await import("./pick.js");
    const [file] = await pick("image/*,audio/*,.wav");
    if (file) await take(file);
  });
  mountRecord(take, trouble);
  mountFiles(take);
  return example(Object.keys(EXAMPLES)[0]);
}

function mountRecord(take, trouble) {
  const [button, words] = [$("signal-record"), $("record-words")];
  const usual = words.textContent;
  let stop = null;
  button.addEventListener("click", async () => {
    if (stop) return void stop.abort();
    stop = new AbortController();
    trouble("");
    button.dataset.on = "true";
    $("record-name").textContent = "Recording; press to stop";
    try {
      const { record } = await import("./sources.js");
      await take(await record((left) => (words.textContent = `${counted(left).replace("step", "second")} left`), stop.signal));
    } catch (error) {
      trouble(error.message);
    } finally {
      stop = null;
      delete button.dataset.on;
      $("record-name").textContent = "Record a sound";
      words.textContent = usual;
    }
  });
}

/** Files dropped or pasted anywhere in this tab. */
function mountFiles(take) {
  const here = () => document.body.dataset.view === "signals";
  const mark = (on) => $("signal-file").toggleAttribute("data-drop", on);
  addEventListener("dragover", (event) => {
    if (!here() || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (!here() || !file) return;
    event.preventDefault();
    mark(false);
    take(file);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!here() || !file) return;
    event.preventDefault();
    take(file);
  });
}

function mountSettings(fitting, board) {
  const fields = { steps: $("signal-steps"), side: $("signal-side"), seconds: $("signal-seconds") };
  for (const [name, select] of Object.entries(fields)) {
    select.addEventListener("change", () => fitting.change({ [name]: Number(select.value) }));
  }
  return () => {
    const about = board.signals?.find(({ kind }) => kind === fitting.source?.kind);
    if (!about) return;
    const chosen = fitting.settings[about.kind];
    options(fields.steps, upTo(STEPS, about.steps.most, about.steps.default), chosen.steps ?? about.steps.default);
    $("side-field").hidden = !about.side;
    $("seconds-field").hidden = !about.seconds;
    if (about.side) options(fields.side, upTo(SIDES, about.side.most, about.side.default), chosen.side ?? about.side.default);
    if (about.seconds) options(fields.seconds, upTo(SECONDS, about.seconds.most, about.seconds.default), chosen.seconds ?? about.seconds.default);
    const { measured, headline } = about;
    const [gain, half] = [measured.gain[headline], measured["gain ci95"][headline]];
    const what = about.kind === "photo" ? "photographs of other things" : "pieces of speech in other languages";
    $("signal-about").textContent = `On ${measured.signals} ${what} the learned start was ${gain.toFixed(1)} ± ${half.toFixed(1)} dB ahead after ${counted(headline)}.`;
    $("signals-trained").textContent = board.signals.map(({ kind, trained_on: on }) => `The start for ${kind === "photo" ? "photos" : "sounds"} was learned on ${on}.`).join(" ");
    $("signals-place").textContent = `What you choose is made small in this browser, sent to the server at ${location.host} alone, fitted in its memory, and not kept.`;
  };
}

export function mountSignals(board) {
  const fitting = new Fitting(board);
  const ear = new Ear(() => draw());
  const slider = $("signal-step");
  const play = $("signal-play");
  const last = () => Math.max(0, (fitting.run?.lines.length ?? 0) - 1);
  const { toggle, stop, playing } = player(fitting, last);
  const look = (step) => {
    stop();
    fitting.set({ at: step });
  };
  const first = mountChoice(fitting);
  const settings = mountSettings(fitting, board);
  play.addEventListener("click", toggle);
  slider.addEventListener("input", () => look(Number(slider.value)));
  scrub($("signal-chart"), last, look);
  ear.mount([["true", "the sound itself"], ["learned", "what came of the learned start"], ["random", "what came of a random start"]], (name) => {
    const { run } = fitting;
    return name === "true" ? run?.target : run?.lines[Math.min(fitting.at ?? Infinity, last())]?.[name].values;
  });

  let told = null;
  const draw = inFrame(() => {
    settings();
    const { run, trouble } = fitting;
    $("become").dataset.empty = String(!run?.lines.length);
    if (!run?.lines.length) return void ($("signal-story").textContent = trouble || "Loading…");
    const { kind, name } = run.source;
    const step = Math.min(fitting.at ?? Infinity, last());
    $("become").dataset.kind = kind;
    $("signal-name").textContent = name;
    $("true-name").textContent = `The ${kind}`;
    $("near-what").textContent = `Nearness to the ${kind}, dB`;
    $("signal-story").textContent = trouble || story(run, step);
    paint($("fit-true").querySelector("canvas"), kind, run.target);
    label($("fit-true").querySelector("canvas"), `The ${kind}`);
    for (const row of ROWS) {
      const fit = run.lines[step][row];
      const figure = $(`fit-${row}`);
      figure.querySelector(".near").textContent = decibels(fit.decibels);
      paint(figure.querySelector("canvas"), kind, fit.values);
      label(figure.querySelector("canvas"), `From ${row === "learned" ? "the learned" : "a random"} start after ${counted(step)}, ${decibels(fit.decibels)}`);
    }
    ear.draw(kind === "sound");
    const sign = playing() ? "pause" : "play";
    if (play.dataset.sign !== sign) {
      play.dataset.sign = sign;
      play.replaceChildren(icon(sign));
      label(play, playing() ? "Pause" : "Play the steps");
    }
    const steps = Math.max(1, run.done ? last() : run.steps);
    slider.max = last();
    slider.value = step;
    slider.disabled = last() === 0;
    slider.style.setProperty("--p", last() ? step / last() : 1);
    slider.setAttribute("aria-valuetext", `step ${step} of ${last()}, ${ROWS.map((row) => `${row} ${decibels(run.lines[step][row].decibels)}`).join(", ")}`);
    $("signal-now").textContent = `step ${step} of ${steps}`;
    const series = ROWS.map((row, tone) => ({ tone, values: run.lines.map((line) => Math.max(0, line[row].decibels)) }));
    const top = 5 * Math.ceil(Math.max(5, ...series.flatMap(({ values }) => values)) / 5);
    chart($("signal-chart"), { series, steps, at: step, top, format: (value) => value.toFixed(0) });
    if (run.done && told !== run) {
      told = run;
      say(story(run, step));
    }
  });
  fitting.on(draw);
  board.on(draw);
  new ResizeObserver(draw).observe($("signal-chart"));
  first();
}
