/**
 * Have the server adapt to the task on the page. Only the newest question is answered: an edit aborts what runs, and a
 * line with another sequence number than the newest is dropped.
 */
import { call, lines, Trouble } from "./api.js";
import { seen } from "./picture.js";
import { inked } from "./task.js";

const PAUSE = 240; // ms after a stroke, in which another one may begin

/** What keeps this task from being learned, as `{text, row}`, or null. */
export function obstacle(task, model) {
  const full = task.classes.filter((row) => row.samples.some(inked));
  const fewest = model.ways?.fewest ?? 2;
  if (full.length >= fewest) return null;
  const empty = task.classes.find((row) => !full.includes(row));
  const missing = fewest - full.length;
  const what = empty ? `“${empty.name}” is still empty` : "add a class";
  return { text: `${missing === 1 ? "One more class" : `${missing} more classes`} with a drawing, please: ${what}.`, row: empty?.id };
}

export class Session {
  #sequence = 0;
  #abort = null;
  #timer = 0;
  #remote = null; // {id, version, classes}: the task as the server has it
  #pause = 1000; // before the next attempt to reach the server
  #slow = 0; // adaptations in a row that took the server too long

  constructor(task, board) {
    this.task = task;
    this.board = board;
    addEventListener("pagehide", () => this.#forget(true));
  }

  /** Stop what runs, because the pen is down. */
  hold() {
    clearTimeout(this.#timer);
    this.#sequence += 1;
    this.#abort?.abort();
  }

  /** Adapt when nothing has been drawn for a moment. */
  soon(pause = PAUSE) {
    this.hold();
    this.board.set({ stale: true });
    this.#timer = setTimeout(() => this.#go(), pause);
  }

  /** Return `{blob, name}`, a file made of the adapted model; adapt first if the drawings are newer or the server forgot them. */
  async file(format) {
    for (let attempt = 0; ; attempt += 1) {
      if (!this.#current) await this.#go();
      if (!this.#current) throw new Error(this.#lacking());
      const query = new URLSearchParams({ format, method: this.board.run.method });
      try {
        const response = await call(`/api/tasks/${this.#remote.id}/export?${query}`);
        const [, name] = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "") ?? [];
        return { blob: await response.blob(), name: name ? decodeURIComponent(name) : `fastadapt-${format}` };
      } catch (error) {
        if (attempt || ![404, 409].includes(error.status)) throw error;
        this.#remote = null;
      }
    }
  }

  /** Whether the server holds a model adapted to what is on the page now. */
  get #current() {
    const { stale, run } = this.board;
    return !stale && Boolean(run?.done && this.#remote);
  }

  #lacking() {
    const { trouble, link, run } = this.board;
    if (trouble) return trouble.text;
    if (link === "offline") return "The server can't be reached.";
    if (link === "busy") return "The server is busy and has not learned your last change yet; try again in a moment.";
    return run ? "Your last change has not been learned yet; try again in a moment." : "There is nothing adapted yet.";
  }

  async #go() {
    this.hold();
    const sequence = this.#sequence;
    const fresh = () => sequence === this.#sequence;
    this.#abort = new AbortController();
    const { task, board } = this;
    const model = board.model(task.settings.model);
    if (!model) return;
    const trouble = obstacle(task, model);
    if (trouble) return void board.set({ trouble, run: null, others: new Map(), link: "ready" });
    board.set({ link: "learning", trouble: null });
    try {
      const remote = await this.#upload(model, fresh);
      if (!fresh()) return;
      const { signal } = this.#abort;
      const [method, ...others] = this.#methods(model);
      await this.#adapt(remote, method, sequence, signal, (run) => board.set({ run, at: null, stale: false, others: new Map([[method, run]]) }));
      for (const other of others) await this.#beside(remote, other, sequence, signal);
      if (!fresh()) return;
      this.#pause = 1000;
      this.#slow = 0;
      board.set({ link: "ready" });
      document.body.dataset.renders = Number(document.body.dataset.renders ?? 0) + 1;
    } catch (error) {
      if (fresh() && error.name !== "AbortError") this.#troubled(error);
    }
  }

  #methods(model) {
    const { method, compare } = this.task.settings;
    const all = model.methods.map((entry) => entry.name);
    const first = all.includes(method) ? method : all[0];
    return compare ? [first, ...all.filter((name) => name !== first)] : [first];
  }

  async #upload(model, fresh) {
    const { task } = this;
    const { version } = task;
    if (this.#remote?.version === version && this.#remote.model === model.name) return this.#remote;
    const classes = task.classes.filter((row) => row.samples.some(inked)).map(({ id, name, samples }) => ({ id, name, samples: samples.filter(inked) }));
    const sent = await Promise.all(
      classes.map(async ({ name, samples }) => ({ name, images: await Promise.all(samples.map(seen)) })),
    );
    const response = await call("/api/tasks", { method: "POST", body: { model: model.name, classes: sent } });
    const { id } = await response.json();
    if (!fresh()) call(`/api/tasks/${id}`, { method: "DELETE" }).catch(() => {});
    else {
      this.#forget();
      this.#remote = { id, version, model: model.name, classes };
    }
    return this.#remote;
  }

  #forget(leaving = false) {
    if (!this.#remote) return;
    call(`/api/tasks/${this.#remote.id}`, { method: "DELETE", keepalive: leaving }).catch(() => {});
    this.#remote = null;
  }

  /** Adapt by a method that is only compared: its trouble is a line in its panel. */
  async #beside(remote, method, sequence, signal) {
    const { board } = this;
    try {
      await this.#adapt(remote, method, sequence, signal, (run) => board.others.set(method, run));
    } catch (error) {
      if (error.code !== "diverged") throw error;
      const run = board.others.get(method) ?? { method, stepping: true, classes: remote.classes, queries: [], lines: [] };
      board.others.set(method, Object.assign(run, { trouble: error.message }));
    }
  }

  /** Stream one adaptation; `begun(run)` is called with its first line. */
  async #adapt(remote, method, sequence, signal, begun) {
    const { task, board } = this;
    const { steps, rate } = task.settings;
    const asked = task.queries.filter(inked);
    const queries = await Promise.all(asked.map(seen));
    const body = { method, steps, rate, queries, sequence };
    const response = await call(`/api/tasks/${remote.id}/adapt`, { method: "POST", body, signal });
    const { steps: stepping = true } = board.model(remote.model).methods.find(({ name }) => name === method);
    const run = { method, stepping, steps, classes: remote.classes, queries: asked.map((query) => query.id), lines: [], nearest: null, heldOut: null, heldOutBefore: null, seconds: null, done: false };
    for await (const line of lines(response)) {
      if (line.sequence !== this.#sequence) return;
      if (line.error) throw new Trouble(line.error, 500);
      if (line.done) Object.assign(run, { done: true, nearest: line.nearest, heldOut: line.held_out, heldOutBefore: line.held_out_before, seconds: line.seconds });
      else if (run.lines.push(line) === 1) begun(run);
      board.tell("board");
    }
    if (!run.done) throw new Trouble({ code: "offline", message: "The connection broke while the network was learning." });
    board.tell("board");
  }

  #troubled(error) {
    const { board } = this;
    const again = (ms) => (this.#timer = setTimeout(() => this.#go(), ms));
    if (error.status === 404) {
      this.#remote = null; // the server forgets a task after a while; the drawings are here
      return void again(100);
    }
    if (error.code === "offline") {
      board.set({ link: "offline" });
      again(this.#pause);
      this.#pause = Math.min(8000, 2 * this.#pause);
      return;
    }
    const slow = error.code === "too_slow" && (this.#slow += 1) <= 2; // a loaded machine; a task too large stays so
    if (error.status === 429 || error.status === 503 || slow) {
      board.set({ link: "busy" });
      return void again(1000 * Math.max(slow ? 3 : 1, error.wait));
    }
    const row = /^classes\[(\d+)\]/.exec(error.field ?? "");
    const full = this.task.classes.filter((other) => other.samples.some(inked));
    board.set({ link: "ready", trouble: { text: error.message, row: row && full[Number(row[1])]?.id, field: error.field } });
  }
}
