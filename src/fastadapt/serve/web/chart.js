/** A small line chart in SVG: one line for each class (or one for the loss), and the step that is looked at. */
import { s } from "./element.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [34, 12, 10, 22];

/** `series` are `{values, tone, name}`; `steps` is the last step of the axis, `at` the marked one, `top` the largest value. */
export function chart(svg, { series, steps, at, top, format }) {
  const width = Math.max(120, svg.clientWidth);
  const height = Math.max(80, svg.clientHeight);
  const x = (step) => LEFT + (step / Math.max(1, steps)) * (width - LEFT - RIGHT);
  const y = (value) => height - BOTTOM - (Math.min(value, top) / top) * (height - TOP - BOTTOM);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [];
  for (const value of [0, top / 2, top]) {
    parts.push(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(s("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)));
  }
  for (const step of new Set([0, Math.round(steps / 2), steps])) {
    parts.push(s("text", { class: "tick", x: x(step), y: height - 5, "text-anchor": "middle" }, String(step)));
  }
  parts.push(s("line", { class: "at", x1: x(at), x2: x(at), y1: TOP - 4, y2: height - BOTTOM }));
  for (const { values, tone } of series) {
    const path = values.map((value, step) => `${step ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    parts.push(s("path", { class: "series", "data-tone": tone, d: path }));
    if (at < values.length) parts.push(s("circle", { class: "dot", "data-tone": tone, cx: x(at), cy: y(values[at]), r: 5 }));
  }
  svg.replaceChildren(...parts);
}

/** Return the top of an axis for losses: a round number, the same for all that are to be compared. */
export function ceiling(losses) {
  return Math.ceil(5 * Math.max(0.1, ...losses.filter(Number.isFinite))) / 5;
}

/** Let a pointer move along the chart; `look(step)` hears where it is. */
export function scrub(svg, steps, look) {
  const to = (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    look(Math.round(Math.min(1, Math.max(0, share)) * steps()));
  };
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    to(event);
  });
  svg.addEventListener("pointermove", (event) => event.buttons && to(event));
}
