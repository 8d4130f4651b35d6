/**
 * The task on the page: classes with their samples, questions, settings.
 *
 * A sample is `{id, strokes, image}` and never changes: an edit puts a new object in its place, so that pictures made of
 * it can be remembered. Listeners are told "support" (what is learned), "query", "settings" or "view" (what is looked at).
 */
import { Told } from "./listeners.js";

let made = 0;
const id = () => `${Date.now().toString(36)}${(made++).toString(36)}`;

export const blank = () => ({ strokes: [], image: null });
export const inked = (sample) => Boolean(sample.image || sample.strokes.length);
const sampled = (content) => ({ ...blank(), ...content, id: id() });

/** Return how many more drawings fit: one that is still empty is used first. */
export const room = (samples, most) => most - samples.filter(inked).length;

/** Add a sample to a list and return its id; a content goes to one that is still empty, on which the pen may be down. */
function filled(list, content) {
  const free = content ? list.findIndex((other) => !inked(other)) : -1;
  const at = free < 0 ? list.length : free;
  list[at] = free < 0 ? sampled(content) : { ...list[at], ...content };
  return list[at].id;
}

/** Take a sample out of a list, which is never left empty; return a function that puts it back where it was. */
function taken(list, id) {
  const at = list.findIndex((other) => other.id === id);
  const [gone] = list.splice(at, 1);
  if (!list.length) list.push(sampled());
  return () => {
    const free = list.findIndex((other) => !inked(other));
    if (free >= 0) list.splice(free, 1);
    list.splice(at, 0, gone);
  };
}

export class Task extends Told {
  classes = [];
  queries = [];
  asked = null;
  settings = { model: null, method: null, steps: null, rate: null, compare: false };
  version = 0;

  tell(what) {
    if (what === "support") this.version += 1;
    super.tell(what);
  }

  /** Return a copy: what is kept in the browser and in a file. */
  snapshot() {
    const { classes, queries, asked, settings } = this;
    return structuredClone({ version: 1, classes, queries, asked, settings });
  }

  /**
   * Put another task in place of this one: a snapshot, or `{classes: [{name, samples}], queries}` without ids. Return a
   * function that swaps them again; what it brings back is as it was left, with its ids.
   */
  replace({ classes, queries, asked = null, settings = {} }) {
    const rows = classes.map((row) => {
      const samples = (row.samples.length ? row.samples : [blank()]).map(sampled);
      return { id: id(), name: row.name, samples, open: samples[0].id };
    });
    const at = Math.max(0, queries.findIndex((query) => query.id && query.id === asked));
    const questions = (queries.length ? queries : [blank()]).map(sampled);
    Object.assign(this.settings, settings);
    return this.#swap({ classes: rows, queries: questions, asked: questions[at].id });
  }

  #swap(next) {
    const { classes, queries, asked } = this;
    Object.assign(this, next);
    this.tell("support");
    return () => this.#swap({ classes, queries, asked });
  }

  find(sample) {
    for (const row of this.classes) {
      const index = row.samples.findIndex((other) => other.id === sample);
      if (index >= 0) return { list: row.samples, index, kind: "support", row };
    }
    const index = this.queries.findIndex((other) => other.id === sample);
    return index < 0 ? null : { list: this.queries, index, kind: "query", row: null };
  }

  sample(id) {
    const at = this.find(id);
    return at && at.list[at.index];
  }

  edit(sample, content) {
    const at = this.find(sample);
    if (!at) return;
    at.list[at.index] = { ...at.list[at.index], ...content };
    this.tell(at.kind);
  }

  addClass(name) {
    const sample = sampled();
    const row = { id: id(), name, samples: [sample], open: sample.id };
    this.classes.push(row);
    this.tell("support");
    return row;
  }

  /** Remove a class; return a function that puts it back, whatever was edited since. */
  removeClass(row) {
    const at = this.classes.findIndex((other) => other.id === row);
    const [gone] = this.classes.splice(at, 1);
    const { name } = gone;
    this.tell("support");
    return () => {
      const taken = () => this.classes.some((other) => other.name === gone.name);
      for (let number = 2; taken(); number += 1) gone.name = `${name.slice(0, 36)} ${number}`;
      this.classes.splice(at, 0, gone);
      this.tell("support");
    };
  }

  moveClass(row, by) {
    const from = this.classes.findIndex((other) => other.id === row);
    const to = from + by;
    if (to < 0 || to >= this.classes.length) return;
    this.classes.splice(to, 0, ...this.classes.splice(from, 1));
    this.tell("support");
  }

  rename(row, name) {
    this.classes.find((other) => other.id === row).name = name;
    this.tell("support");
  }

  /** Add a sample to a class; one that is still empty is used first. */
  addSample(row, content) {
    row.open = filled(row.samples, content);
    this.tell("support");
  }

  /** Remove a drawing; return a function that puts it back. */
  removeSample(row, sample) {
    const back = taken(row.samples, sample);
    if (row.open === sample) row.open = row.samples.at(-1).id;
    this.tell("support");
    return () => {
      back();
      row.open = sample;
      this.tell("support");
    };
  }

  addQuery(content) {
    this.asked = filled(this.queries, content);
    this.tell("query");
  }

  /** Remove a question; return a function that puts it back. */
  removeQuery(query) {
    const back = taken(this.queries, query);
    if (this.asked === query) this.asked = this.queries.at(-1).id;
    this.tell("query");
    return () => {
      back();
      this.asked = query;
      this.tell("query");
    };
  }

  look(change) {
    change(this);
    this.tell("view");
  }

  set(settings) {
    Object.assign(this.settings, settings);
    this.tell("settings");
  }
}
