/**
 * What the network is given: black ink on white, 105 x 105, as Omniglot's drawings are.
 *
 * A drawing is centred by its bounding box in a square 1.9 times as large, and drawn 3 pixels wide; an image that was
 * uploaded fills the square, and strokes over it stay where they are.
 */
import { inked } from "./task.js";
import { bounds, trace } from "./strokes.js";

const SIDE = 105;
const WIDTH = 3;
const ROOM = 1.9;
const known = new WeakMap();

/** Draw strokes with a round pen. */
export function ink(context, strokes, place, width, colour) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.beginPath();
  for (const stroke of strokes) trace(context, stroke, place);
  context.stroke();
}

function centred(strokes) {
  const box = bounds(strokes);
  const side = ROOM * Math.max(box.right - box.left, box.bottom - box.top, 0.05);
  const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  return ([px, py]) => [((px - x) / side + 0.5) * SIDE, ((py - y) / side + 0.5) * SIDE];
}

/** Return the decoded image of a data URL. */
export async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function drawn({ strokes, image }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  if (image) context.drawImage(await decoded(image), 0, 0, SIDE, SIDE);
  ink(context, strokes, image ? ([x, y]) => [x * SIDE, y * SIDE] : centred(strokes), WIDTH, "#000");
  if (!image) twoTone(context);
  return canvas.toDataURL("image/png");
}

// Omniglot's scans have no greys.
function twoTone(context) {
  const pixels = context.getImageData(0, 0, SIDE, SIDE);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.fill(pixels.data[i] < 128 ? 0 : 255, i, i + 3);
  }
  context.putImageData(pixels, 0, 0);
}

/** Return the PNG (or the untouched upload) of a sample as a data URL, or null for an empty one. */
export async function seen(sample) {
  if (!inked(sample)) return null;
  if (sample.image && !sample.strokes.length) return sample.image;
  if (!known.has(sample)) known.set(sample, drawn(sample));
  return known.get(sample);
}

/** Show a sample in an `<img>` as the network sees it; a newer sample wins over a slower one. */
export function show(image, sample) {
  if (image.sample === sample) return;
  image.sample = sample;
  image.classList.toggle("drawn", !sample.image);
  seen(sample).then((url) => {
    if (image.sample !== sample) return;
    if (url) image.src = url;
    else image.removeAttribute("src");
  });
}
