/** Ask for the access token of a server that wants one. */
import { $, h } from "./element.js";

let asking = null;
const SENDABLE = /^[\x20-\x7e]+$/; // fetch throws at other letters in a header

function dialog() {
  const field = { id: "token-value", type: "password", autocomplete: "off", required: true, "aria-describedby": "token-trouble" };
  return h(
    "dialog",
    { id: "token", "aria-labelledby": "token-title" },
    h(
      "form",
      {},
      h("h2", { id: "token-title" }, "This server asks for a token"),
      h("p", {}, h("label", { for: "token-value" }, "Token: the word given to --token where the server was started"), h("input", field)),
      h("p", { class: "trouble", id: "token-trouble", role: "status" }),
      h("p", { class: "actions" }, h("button", { class: "strong" }, "Go on")),
    ),
  );
}

/** Show the dialog once, however many requests wait for it; `again` says that the last token was refused. */
export function askToken(again) {
  asking ??= new Promise((resolve) => {
    const box = dialog();
    document.body.append(box);
    if (again) $("token-trouble").textContent = "This token was not accepted. It is the word given to --token where the server was started.";
    box.addEventListener("cancel", (event) => event.preventDefault());
    box.addEventListener("submit", (event) => {
      event.preventDefault(); // the content policy allows no form to be sent
      const value = $("token-value").value.trim();
      if (!SENDABLE.test(value)) {
        $("token-trouble").textContent = "A browser can send only a token of plain letters (a to z), digits and signs; give --token such a word.";
        return;
      }
      asking = null;
      resolve(value);
      box.remove();
    });
    box.showModal();
  });
  return asking;
}
