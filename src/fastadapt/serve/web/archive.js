/** A task as a zip of PNGs (`CLASS/N.png`, for any program) with `task.json` (the strokes, so that they can be edited). */
import { $ } from "./element.js";
import { seen } from "./picture.js";
import { replaced } from "./status.js";
import { inked } from "./task.js";
import { squares } from "./upload.js";
import { unzipped, zipped } from "./zip.js";

const KINDS = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", gif: "image/gif" };

async function bytesOf(url) {
  const text = atob(url.split(",")[1]);
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Return the zip of a task as a Blob. */
export async function packed(task) {
  const entries = [{ name: "task.json", bytes: new TextEncoder().encode(JSON.stringify(task.snapshot())) }];
  for (const [place, row] of task.classes.entries()) {
    const plain = row.name.replace(/[\\/:*?"<>|\p{C}]/gu, "_").replace(/^\.+/, "_");
    const taken = task.classes.slice(0, place).some((other) => other.name === plain);
    const folder = taken ? `${plain} ${place + 1}` : plain;
    for (const [number, sample] of row.samples.filter(inked).entries()) {
      entries.push({ name: `${folder}/${number + 1}.png`, bytes: await bytesOf(await seen(sample)) });
    }
  }
  return zipped(entries);
}

const number = (value) => typeof value === "number" && value >= 0 && value <= 1;
const point = (value) => Array.isArray(value) && value.length === 2 && value.every(number);
const stroke = (value) => Array.isArray(value) && value.length > 0 && value.every(point);
const picture = (value) => value === null || (typeof value === "string" && /^data:image\/(png|jpeg|webp|gif);base64,/.test(value));

function checked({ id, strokes, image }) {
  if (!Array.isArray(strokes) || !strokes.every(stroke) || !picture(image)) throw new Error("task.json holds a drawing that can't be read.");
  return { id: String(id), strokes, image };
}

function described(text) {
  const { version, classes, queries, asked } = JSON.parse(text);
  if (version !== 1) throw new Error(`task.json is of version ${version}; this page reads version 1.`);
  return {
    classes: classes.map(({ name, samples }) => ({ name: String(name).slice(0, 40), samples: samples.map(checked) })),
    queries: queries.map(checked),
    asked,
  };
}

/** Return the task in a zip: from its `task.json`, else a class for each folder of images. */
async function opened(blob, model) {
  const entries = await unzipped(blob);
  const text = entries.find(({ name }) => name === "task.json");
  if (text) return described(new TextDecoder().decode(text.bytes));
  const folders = new Map();
  for (const { name, bytes } of entries) {
    const [file, folder] = name.split("/").reverse();
    const type = KINDS[file.split(".").at(-1).toLowerCase()];
    if (!folder || !type) continue;
    if (!folders.has(folder)) folders.set(folder, []);
    folders.get(folder).push(new File([bytes], file, { type }));
  }
  if (!folders.size) throw new Error("The archive holds no task: neither task.json nor folders of images.");
  const classes = [];
  for (const [name, files] of folders) {
    const { pictures } = await squares(files.slice(0, model?.shots?.most ?? 10), model);
    classes.push({ name: name.slice(0, 40), samples: pictures.map((image) => ({ strokes: [], image })) });
  }
  return { classes, queries: [] };
}

/** Put the task of an archive on the page; what was there can be brought back. */
export async function open(file, task, board) {
  try {
    const found = await opened(file, board.model(task.settings.model));
    const swap = task.replace(found);
    $("take-trouble").textContent = "";
    replaced(`“${file.name}” opened in place of your drawings.`, swap);
  } catch (error) {
    $("take-trouble").textContent = `“${file.name}” was not opened. ${error.message}`;
  }
}
