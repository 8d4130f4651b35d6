/** Files dropped or pasted anywhere: an archive opens, images join the class (or the questions) under the pointer. */
import { $ } from "./element.js";
import { addFiles } from "./pick.js";

const isArchive = (file) => file.name.toLowerCase().endsWith(".zip") || file.type.includes("zip");

async function take(files, node, task, board) {
  const archive = files.find(isArchive);
  if (archive) return (await import("./archive.js")).open(archive, task, board);
  const card = node?.closest?.(".card");
  const row = card ? task.classes.find((other) => other.id === card.dataset.row) : null;
  const trouble = card ? card.querySelector(".trouble") : $("ask-trouble");
  trouble.textContent = await addFiles(files, row, task, board);
}

export function mountDrop(task, board) {
  let over = null;
  const away = () => document.body.dataset.view !== "drawings"; // the other tab has drops of its own
  const mark = (node) => {
    if (node === over) return;
    over?.removeAttribute("data-drop");
    node?.setAttribute("data-drop", "true");
    over = node;
  };
  const target = (event) => event.target.closest?.(".card, #ask") ?? $("take");
  addEventListener("dragover", (event) => {
    if (away() || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(target(event));
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && mark(null));
  addEventListener("drop", async (event) => {
    if (away() || !event.dataTransfer.files.length) return;
    event.preventDefault();
    mark(null);
    await take([...event.dataTransfer.files], target(event), task, board);
  });
  addEventListener("paste", async (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (away() || !files.length) return;
    event.preventDefault();
    await take(files, document.activeElement, task, board);
  });
}
