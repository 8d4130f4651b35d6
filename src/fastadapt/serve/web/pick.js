/** Let the user choose files. */
import { TYPES } from "./types.js";

/** Return the files that were chosen, none if the user thought better of it. */
export function pick(accept = TYPES.join(",")) {
  return new Promise((resolve) => {
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, accept, id: "picked" });
    input.hidden = true;
    const finish = () => (input.remove(), resolve([...input.files]));
    input.addEventListener("change", finish);
    input.addEventListener("cancel", finish);
    document.body.append(input); // a test, and some browsers, want it in the page
    input.click();
  });
}

/** Add files to a class (or as questions, where `row` is null); the code for it is fetched when it is first wanted. */
export async function addFiles(files, row, task, board) {
  const { addPictures } = await import("./upload.js");
  return addPictures(files, row, task, board);
}
