/** How the network adapts: model, method, steps, rate; and whether the methods are compared. */
import { $, h, inFrame } from "./element.js";

const STEPS = [1, 2, 3, 5, 10, 20, 30, 50];
const MOVING = "One drawing each and a few steps: a network that has never seen your classes learns them as you draw.";
const STILL = "One drawing each and no step at all: a network that has never seen your classes tells them apart as you draw.";

/** The number of steps a task begins with: at least ten, so that there is something to watch. */
export const usualSteps = ({ steps }) => Math.min(steps.most, Math.max(10, steps.default));

function options(select, entries, chosen) {
  const key = JSON.stringify(entries);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...entries.map(([value, text]) => h("option", { value }, text)));
  }
  select.value = chosen;
}

function rateOf(field, trouble) {
  const rate = field.value === "" ? null : Number(field.value);
  const good = rate === null ? !field.validity.badInput : rate > 0 && rate <= 10;
  trouble.textContent = good ? "" : "A rate is a number above 0 and at most 10; leave it empty for the one the model was trained with.";
  field.setAttribute("aria-invalid", String(!good));
  return good ? rate : undefined;
}

export function mountSettings(task, board) {
  const [model, method, steps, rate, compare] = ["model", "method", "steps", "rate", "compare"].map($);
  model.addEventListener("change", () => task.set({ model: model.value, method: null, steps: null, rate: null }));
  method.addEventListener("change", () => task.set({ method: method.value }));
  steps.addEventListener("change", () => task.set({ steps: Number(steps.value) }));
  rate.addEventListener("change", () => {
    const value = rateOf(rate, $("rate-trouble"));
    if (value !== undefined) task.set({ rate: value });
  });
  compare.addEventListener("click", () => task.set({ compare: !task.settings.compare }));

  let told = false;
  const draw = inFrame(() => {
    const current = board.model(task.settings.model);
    if (!current) return;
    $("model-field").hidden = board.models.length < 2;
    options(model, board.models.map(({ name, title }) => [name, title]), current.name);
    const known = current.methods.some(({ name }) => name === task.settings.method);
    options(method, current.methods.map(({ name, title }) => [name, title]), known ? task.settings.method : current.methods[0].name);
    const chosen = current.methods.find(({ name }) => name === method.value);
    const still = chosen.steps === false; // it compares, and has nothing to set
    $("method-about").textContent = chosen.about;
    $("lede").textContent = still ? STILL : MOVING;
    $("steps-field").hidden = $("rate-field").hidden = still && !task.settings.compare;
    const counts = [...new Set([...STEPS, current.steps.default, usualSteps(current)])].filter((count) => count <= current.steps.most).sort((a, b) => a - b);
    options(steps, counts.map((count) => [count, String(count)]), task.settings.steps ?? usualSteps(current));
    if (document.activeElement !== rate) rate.value = task.settings.rate ?? "";
    const blamed = board.trouble?.field === "rate";
    if (blamed || told) $("rate-trouble").textContent = blamed ? board.trouble.text : "";
    told = blamed;
    compare.setAttribute("aria-checked", String(task.settings.compare));
    $("compare-field").hidden = current.methods.length < 2;
  });
  task.on(draw);
  board.on(draw);
}
