/** A button that opens a short list of actions. */
import { h, icon } from "./element.js";

const close = (details) => {
  if (!details.open) return;
  details.open = false;
};

document.addEventListener("pointerdown", (event) => {
  for (const open of document.querySelectorAll("details.menu[open]")) if (!open.contains(event.target)) close(open);
});

/** `entries` are `{text, icon, act}`; the node's `entries` are their buttons, to hide or disable. */
export function menu(sign, name, entries) {
  const summary = h("summary", { class: "tool", "aria-label": name, title: name }, icon(sign));
  const buttons = entries.map((entry) =>
    h("button", { type: "button", onclick: () => (close(details), summary.focus(), entry.act()) }, icon(entry.icon), entry.text),
  );
  const details = h("details", { class: "menu" }, summary, h("div", { class: "entries" }, ...buttons));
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    close(details);
    summary.focus();
    event.stopPropagation();
  });
  details.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !details.contains(event.relatedTarget)) close(details);
  });
  return Object.assign(details, { summary, entries: buttons });
}
