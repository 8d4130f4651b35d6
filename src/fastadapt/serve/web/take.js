/** "Take it with you": downloads of the adapted model, and the task as a file that opens here again. */
import { $ } from "./element.js";
import { pick } from "./pick.js";

const archive = () => import("./archive.js"); // fetched when it is first wanted

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export function mountTake(task, board, session) {
  const tell = (text) => ($("take-trouble").textContent = text);
  for (const button of $("take").querySelectorAll("[data-format]")) {
    button.addEventListener("click", async () => {
      const { format } = button.dataset;
      button.setAttribute("aria-busy", "true");
      tell("");
      try {
        const { blob, name } = await session.file(format);
        download(blob, name);
      } catch (error) {
        tell(`The file could not be made. ${error.message}`);
      } finally {
        button.removeAttribute("aria-busy");
      }
    });
  }
  $("save-task").addEventListener("click", async () => {
    const { packed } = await archive();
    download(await packed(task), "fastadapt-task.zip");
  });
  $("open-task").addEventListener("click", async () => {
    const [file] = await pick(".zip,application/zip");
    if (file) await (await archive()).open(file, task, board);
  });
}
