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

  /** Return a copy that `replace` takes back; also what is kept in the browser. */
  snapshot() {
    const { classes, queries, asked, settings } = this;
    return structuredClone({ version: 1, classes, queries, asked, settings });
  }

  /** Put another task in place of this one: a snapshot, or `{classes: [{name, samples}], queries}` without ids. */
  replace({ classes, queries, asked = null, settings = {} }) {
    this.classes = classes.map((row) => {
      const samples = (row.samples.length ? row.samples : [blank()]).map(sampled);
      return { id: id(), name: row.name, samples, open: samples[0].id };
    });
    const at = Math.max(0, queries.findIndex((query) => query.id && query.id === asked));
    this.queries = (queries.length ? queries : [blank()]).map(sampled);
    this.asked = this.queries[at].id;
    Object.assign(this.settings, settings);
    this.tell("support");
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

  removeClass(row) {
    this.classes = this.classes.filter((other) => other.id !== row);
    this.tell("support");
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
    const { samples } = row;
    const free = content && samples.findIndex((other) => !inked(other));
    const sample = sampled(content);
    if (content && free >= 0) samples[free] = sample;
    else samples.push(sample);
    row.open = sample.id;
    this.tell("support");
  }

  removeSample(row, sample) {
    row.samples = row.samples.filter((other) => other.id !== sample);
    if (!row.samples.length) row.samples = [sampled()];
    if (row.open === sample) row.open = row.samples.at(-1).id;
    this.tell("support");
  }

  addQuery(content) {
    const free = content ? this.queries.findIndex((other) => !inked(other)) : -1;
    const query = sampled(content);
    if (free >= 0) this.queries[free] = query;
    else this.queries.push(query);
    this.asked = query.id;
    this.tell("query");
  }

  removeQuery(query) {
    this.queries = this.queries.filter((other) => other.id !== query);
    if (!this.queries.length) this.queries = [sampled()];
    if (this.asked === query) this.asked = this.queries.at(-1).id;
    this.tell("query");
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
