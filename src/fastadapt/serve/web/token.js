/** Ask for the access token of a server that wants one. */
import { $ } from "./element.js";

let asking = null;

/** Show the dialog once, however many requests wait for it; `again` says that the last token was refused. */
export function askToken(again) {
  asking ??= new Promise((resolve) => {
    const dialog = $("token");
    $("token-trouble").textContent = again ? "This token was not accepted. Look at the line the server printed." : "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault(); // the content policy allows no form to be sent
        dialog.close();
        asking = null;
        resolve($("token-value").value.trim());
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}
