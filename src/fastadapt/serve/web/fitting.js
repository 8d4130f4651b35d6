/**
 * A fit of a photograph or a sound, as the server streams it.
 *
 * A run is `{signal, steps, target, lines, done}`: what the server made of the file, what it is, and for each step
 * `{step, learned: {decibels, values}, random: {decibels, values}}`, values decoded. Only the newest choice is fitted.
 */
import { call, lines, Trouble } from "./api.js";
import { Told } from "./listeners.js";

export const HEADLINE = { photo: 2, sound: 3 };

/** Decode base64 into bytes. */
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Return a picture as a bitmap, a sound as numbers -1..1. */
async function decoded(kind, text) {
  const data = bytes(text);
  if (kind === "photo") return createImageBitmap(new Blob([data], { type: "image/png" }));
  return Float32Array.from(new Int16Array(data.buffer), (value) => value / 32767);
}

export class Fitting extends Told {
  source = null; // {kind, name, body}: what was chosen
  settings = { photo: {}, sound: {} }; // steps, side or seconds, where they were changed
  run = null;
  at = null; // the step that is looked at; null follows the last
  trouble = "";
  #sequence = 0;
  #abort = null;
  #timer = 0;

  constructor(board) {
    super();
    this.board = board;
  }

  set(change) {
    Object.assign(this, change);
    this.tell("board");
  }

  /** Fit another signal: `{kind, name, body}`, the body as the server takes it. */
  choose(source) {
    this.source = source;
    return this.again();
  }

  /** Change a setting of the present kind of signal, and fit again. */
  change(settings) {
    Object.assign(this.settings[this.source.kind], settings);
    return this.again();
  }

  async again() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = new AbortController();
    const sequence = (this.#sequence += 1);
    const fresh = () => sequence === this.#sequence;
    const { source, board } = this;
    this.set({ trouble: "" });
    board.set({ link: "learning" });
    try {
      const body = { ...source.body, ...this.settings[source.kind], sequence };
      const response = await call("/api/fit", { method: "POST", body, signal: this.#abort.signal });
      for await (const line of lines(response)) {
        if (!fresh()) return;
        if (line.error) throw new Trouble(line.error, line.error.code === "too_slow" ? 503 : 500);
        await this.#take(line, fresh);
      }
      if (!fresh()) return;
      if (!this.run?.done) throw new Trouble({ code: "offline", message: "The connection broke while it was fitted." });
      board.set({ link: "ready" });
      document.body.dataset.fits = Number(document.body.dataset.fits ?? 0) + 1;
    } catch (error) {
      if (fresh() && error.name !== "AbortError") this.#troubled(error);
    }
  }

  async #take(line, fresh) {
    const { source } = this;
    if (line.target) {
      const target = await decoded(source.kind, line.target);
      if (!fresh()) return;
      const about = this.board.signals?.find(({ kind }) => kind === source.kind);
      const steps = this.settings[source.kind].steps ?? about?.steps.default ?? 20;
      this.set({ run: { source, signal: line.signal, steps, target, lines: [], done: false }, at: null });
      return;
    }
    const { run } = this;
    if (line.done) run.done = true;
    else {
      const { learned, random } = line;
      [learned.values, random.values] = await Promise.all([decoded(source.kind, learned.values), decoded(source.kind, random.values)]);
      if (!fresh()) return;
      run.lines.push(line);
      // it stops to look after the steps that such a start is learned for; the rest arrives meanwhile
      if (line.step === HEADLINE[source.kind]) this.at = line.step;
    }
    this.tell("board");
  }

  #troubled(error) {
    const waits = { 429: "The server is busy; waiting for a turn…", 503: "The server was too busy; trying again…" };
    const offline = error.code === "offline";
    if (offline || error.status === 429) {
      this.board.set({ link: offline ? "offline" : "busy" });
      this.#timer = setTimeout(() => this.again(), offline ? 2000 : 1000 * Math.max(1, error.wait));
    } else this.board.set({ link: "ready" });
    this.set({ trouble: waits[error.status] && error.code !== "too_slow" ? waits[error.status] : error.message });
  }
}
