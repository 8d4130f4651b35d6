/** Write and read small zip archives: stored when written; stored or deflated when read. */
const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
const MOST_ENTRIES = 1000;
const MOST_BYTES = 20e6;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

export function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** Pack `[size, value]` pairs little-endian. */
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

/** Return a Blob that holds `[{name, bytes}]`. */
export function zipped(entries) {
  const [parts, index] = [[], []];
  let offset = 0;
  for (const { name, bytes } of entries) {
    const path = new TextEncoder().encode(name);
    const sizes = [[4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    // version 2.0, UTF-8 names, stored, 1 January 1980
    const about = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], ...sizes];
    const head = record([4, LOCAL], ...about);
    parts.push(head, path, bytes);
    index.push(record([4, CENTRAL], [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += head.byteLength + path.length + bytes.length;
  }
  const size = index.reduce((sum, part) => sum + part.byteLength, 0);
  const count = entries.length;
  const end = record([4, END], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}

async function inflated(bytes, size) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const whole = new Uint8Array(size);
  let filled = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    if (filled + value.length > size) throw new Error("The archive is damaged: an entry is larger than it says.");
    whole.set(value, filled);
    filled += value.length;
  }
  return whole;
}

/** Return `[{name, bytes}]` of a Blob; refuse what is no archive, is damaged, or would fill the memory. */
export async function unzipped(blob) {
  const whole = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(whole.buffer);
  let end = whole.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new Error("This file is no zip archive.");
  const count = view.getUint16(end + 10, true);
  if (count > MOST_ENTRIES) throw new Error(`The archive has ${count} entries; a task has at most ${MOST_ENTRIES}.`);
  const found = [];
  let [at, total] = [view.getUint32(end + 16, true), 0];
  for (let i = 0; i < count; i += 1) {
    if (view.getUint32(at, true) !== CENTRAL) throw new Error("The archive is damaged: its index does not fit.");
    const [method, packed, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [length, extra, note] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const name = new TextDecoder().decode(whole.subarray(at + 46, at + 46 + length));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    at += 46 + length + extra + note;
    total += size;
    if (total > MOST_BYTES) throw new Error("The archive holds more than 20 MB.");
    if (name.endsWith("/")) continue;
    const bytes = whole.subarray(start, start + packed);
    if (method !== 0 && method !== 8) throw new Error(`“${name}” is packed in a way that is not read here.`);
    const data = method ? await inflated(bytes, size) : bytes;
    if (crc32(data) !== view.getUint32(at - 46 - length - extra - note + 16, true)) throw new Error(`“${name}” is damaged.`);
    found.push({ name, bytes: data });
  }
  return found;
}
