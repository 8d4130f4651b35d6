/** Words about what goes on: for screen readers, for the state of the connection, and short notices with an undo. */
import { $, h } from "./element.js";

/** Have a screen reader say something when it has time. */
export function say(text) {
  $("summary").textContent = text;
}

const LINKS = {
  connecting: "Connecting…",
  ready: "Ready",
  learning: "Learning…",
  busy: "The server is busy; waiting for a turn…",
  offline: "The server can't be reached. Your drawings are safe in this browser; trying again…",
};

/** Show the state of the connection at the top of the page. */
export function mountLink(board) {
  board.on(() => {
    const pill = $("link");
    if (pill.dataset.link === board.link) return;
    pill.dataset.link = board.link;
    pill.textContent = LINKS[board.link];
  });
}

let timer = 0;

/** Show a notice at the bottom; `undo`, if given, takes back what it tells of. */
export function notice(text, undo = null) {
  const box = $("notice");
  clearTimeout(timer);
  const hide = () => box.replaceChildren();
  const buttons = [];
  if (undo) buttons.push(h("button", { type: "button", class: "link", onclick: () => (undo(), hide()) }, "Undo"));
  buttons.push(h("button", { type: "button", class: "link", onclick: hide }, "Close"));
  box.replaceChildren(h("p", {}, text), ...buttons);
  timer = setTimeout(hide, 20000);
}
