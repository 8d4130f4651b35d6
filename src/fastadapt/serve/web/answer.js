/** Probabilities in words and bars. */
import { h, keyed } from "./element.js";

/** Percent as it is spoken of: never "100 %" for what is not certain. */
export function percent(p) {
  if (p > 0.99 && p < 1) return "> 99\u202f%";
  if (p < 0.01 && p > 0) return "< 1\u202f%";
  return `${Math.round(p * 100)}\u202f%`;
}

/** Return how sure probabilities are, by their entropy as a share of the largest one possible. */
export function sureness(p) {
  const entropy = -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0) / Math.log(p.length);
  if (entropy < 0.4) return "sure";
  return entropy < 0.85 ? "unsure" : "none of these?";
}

/** Return class indices, most probable first. */
export const ranked = (p) => p.map((_, index) => index).sort((a, b) => p[b] - p[a]);

/** "fish 99 %, house 1 %, star < 1 %: sure" */
export function spoken(p, classes) {
  const parts = ranked(p).slice(0, 3).map((index) => `${classes[index].name} ${percent(p[index])}`);
  return `${parts.join(", ")}: ${sureness(p)}`;
}

function twin(row) {
  const [name, now, was] = [h("span", { class: "name" }), h("span", { class: "now" }), h("span", { class: "was" })];
  const [before, after] = [h("i", { class: "before" }), h("i", { class: "after" })];
  const node = h("li", {}, name, now, h("span", { class: "twin", "aria-hidden": "true" }, after, before), was);
  const update = ({ id, title, p, p0, tone }) => {
    node.dataset.tone = tone;
    name.textContent = title;
    now.textContent = percent(p);
    was.textContent = p0 === null ? "" : `before ${percent(p0)}`;
    after.style.setProperty("--p", p);
    before.style.setProperty("--p", p0 ?? 0);
    before.hidden = p0 === null;
  };
  return { node, update };
}

/** Fill a list with the `most` likeliest classes: a bar after learning, a thin one before, and both in words. */
export function bars(list, run, p, p0, tones, most = 3) {
  const items = ranked(p).slice(0, most).map((index) => {
    const { id, name } = run.classes[index];
    return { id, title: name, p: p[index], p0: p0 ? p0[index] : null, tone: tones.get(id) ?? 0 };
  });
  keyed(list, items, twin);
}

/** Each class' colour and pattern, by its place on the page. */
export const tones = (task) => new Map(task.classes.map((row, index) => [row.id, index % 8]));
