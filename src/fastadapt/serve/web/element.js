/** Make elements, and keep the children of one in step with a list of things. */
const SVG = "http://www.w3.org/2000/svg";
const kept = new WeakMap();

export const $ = (id) => document.getElementById(id);

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element: attributes, listeners as `onclick`, custom properties as `--p`. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same for SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export const icon = (name) =>
  s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("use", { href: `/static/icons.svg#${name}` }));

/** A button that shows an icon and is named by `label`. */
export const tool = (name, label, act, props) =>
  h("button", { type: "button", class: "tool", title: label, "aria-label": label, onclick: act, ...props }, icon(name));

/** Rename a control that shows only an icon. */
export function label(node, text) {
  node.title = text;
  node.setAttribute("aria-label", text);
}

/**
 * Give `parent` one child for each item, in order; nodes that stay are not touched, so focus and strokes survive.
 * `create(item)` returns `{node, update(item, index)}`; items are told apart by `id`.
 */
export function keyed(parent, items, create) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) after.set(item.id, before.get(item.id) ?? create(item));
  for (const [id, view] of before) if (!after.has(id)) view.node.remove();
  kept.set(parent, after); // before updates, one of which may fail
  let place = parent.firstChild;
  items.forEach((item, index) => {
    const { node, update } = after.get(item.id);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update?.(item, index);
  });
}

/** Return a function that runs `draw` once in the next frame, however often it is called. */
export function inFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
