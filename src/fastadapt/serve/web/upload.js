/** Pictures from files: decoded in the browser (turned as EXIF says), cropped to the middle, made small. */
import { room } from "./task.js";
import { inkOnPaper } from "./threshold.js";
import { TYPES } from "./types.js";

const LARGEST = 10e6;

/**
 * Return the middle square of a file, a video or a bitmap as a data URL: two-tone at 105 pixels for a model of drawings,
 * else 168 pixels in colour.
 */
export async function square(source, model) {
  const bitmap = await createImageBitmap(source, { imageOrientation: "from-image" });
  const drawings = model?.input.channels === 1;
  const side = drawings ? 105 : 168;
  const cut = Math.min(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // under transparent pixels
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, (bitmap.width - cut) / 2, (bitmap.height - cut) / 2, cut, cut, 0, 0, side, side);
  bitmap.close();
  if (drawings) inkOnPaper(context, side);
  return canvas.toDataURL("image/png");
}

/** Return `{pictures, trouble}`: the squares of the files that are images, and a sentence about those that are not. */
export async function squares(files, model) {
  const [pictures, refused] = [[], []];
  for (const file of files) {
    if (!TYPES.includes(file.type)) refused.push(`“${file.name}” is not a PNG, JPEG, WebP or GIF image.`);
    else if (file.size > LARGEST) refused.push(`“${file.name}” is larger than 10 MB.`);
    else await square(file, model).then((url) => pictures.push(url), () => refused.push(`“${file.name}” can't be read as an image.`));
  }
  return { pictures, trouble: refused.join(" ") };
}

/** Add files to a class, or as questions where `row` is null; return a sentence about what was left out. */
export async function addPictures(files, row, task, board) {
  const model = board.model(task.settings.model);
  const { pictures, trouble } = await squares(files, model);
  const most = row ? (model?.shots?.most ?? 10) : (board.limits?.queries ?? 64);
  let left = "";
  for (const image of pictures) {
    if (room(row ? row.samples : task.queries, most) <= 0) left = `No more than ${most} fit here; the rest was left out.`;
    else if (row) task.addSample(row, { image });
    else task.addQuery({ image });
  }
  return [trouble, left].filter(Boolean).join(" ");
}
