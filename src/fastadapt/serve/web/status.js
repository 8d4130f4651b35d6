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

/** Show a notice at the bottom; `undo`, if given, takes back what it tells of. The focus returns to where it is now. */
export function notice(text, undo = null) {
  const box = $("notice");
  const home = document.activeElement;
  clearTimeout(timer);
  const hide = () => {
    const button = box.contains(document.activeElement) && document.activeElement;
    const preventScroll = button && !button.matches(":focus-visible"); // a finger did not ask to be taken elsewhere
    box.replaceChildren();
    if (!button) return;
    home.focus({ preventScroll });
    if (document.activeElement !== home || home === document.body) $("add-class").focus({ preventScroll });
  };
  const buttons = [];
  if (undo) buttons.push(h("button", { type: "button", class: "link", onclick: () => (hide(), undo()) }, "Undo"));
  buttons.push(h("button", { type: "button", class: "link", onclick: hide }, "Close"));
  box.replaceChildren(h("p", {}, text), ...buttons);
  timer = setTimeout(hide, 20000);
}

/** Tell that another task is on the page; `swap` brings the one before back, and either way none of the two is lost. */
export function replaced(text, swap) {
  notice(text, () => replaced("Your drawings are back.", swap()));
}
