/** What is fitted: a picture or a sound from a file, or a sound from the microphone, as the server takes it. */
const RATE = 11025;
const SIDE = 256; // pixels that are sent; fewer are fitted
const LONGEST = 60; // seconds that are sent; the loudest stretch of them is fitted
const LARGEST = 200e6;
const RAW = 5e6;
export const RECORDED = 3; // seconds

const base64 = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

async function photo(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const cut = Math.min(bitmap.width, bitmap.height);
  const side = Math.min(SIDE, cut);
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // under transparent pixels
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, (bitmap.width - cut) / 2, (bitmap.height - cut) / 2, cut, cut, 0, 0, side, side);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return { kind: "photo", name: file.name, body: { photo: await base64(blob) } };
}

/** Return samples -1..1 as a WAV file. */
function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, RATE, 4], [28, 2 * RATE, 4], [32, 2, 2], [34, 16, 2]].forEach(([at, value, size]) =>
    size === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true),
  );
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(32767 * Math.min(1, Math.max(-1, value))), true));
  return new Blob([view]);
}

async function sound(file) {
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  const mono = new Float32Array(Math.min(buffer.length, LONGEST * RATE));
  for (let i = 0; i < buffer.numberOfChannels; i += 1) {
    const one = buffer.getChannelData(i);
    for (let k = 0; k < mono.length; k += 1) mono[k] += one[k] / buffer.numberOfChannels;
  }
  return { kind: "sound", name: file.name, body: { sound: await base64(wav(mono)) } };
}

/** Return what a file holds as `{kind, name, body}`; an error's message says why it holds nothing. */
export async function read(file) {
  if (file.size > LARGEST) throw new Error(`“${file.name}” is larger than 200 MB.`);
  const tries = /^(audio|video)\//.test(file.type) ? [sound, photo] : [photo, sound];
  for (const attempt of tries) {
    try {
      return await attempt(file);
    } catch {
      // the other kind is tried, and then the server, which says what is wrong with a WAV
    }
  }
  const begin = await file.slice(0, 12).text();
  if (begin.startsWith("RIFF") && begin.endsWith("WAVE") && file.size <= RAW) {
    return { kind: "sound", name: file.name, body: { sound: await base64(file) } };
  }
  throw new Error(`“${file.name}” is neither a picture nor a sound that this browser can read. Save it as PNG or WAV.`);
}

const REFUSALS = {
  NotAllowedError: "The browser was not allowed to use the microphone. Allow it in the address bar, or choose a file instead.",
  NotFoundError: "No microphone was found. Choose a file instead.",
  NotReadableError: "The microphone is in use by another program.",
};

/** Record for some seconds; `left(seconds)` hears how many remain, `signal` stops it early. Return a file. */
export async function record(left, signal) {
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.MediaRecorder) {
    throw new Error("This browser gives no microphone to this page. It does on localhost and over https; files work anywhere.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new Error(REFUSALS[error.name] ?? `The microphone did not start: ${error.message}`, { cause: error });
  }
  try {
    const recorder = new MediaRecorder(stream);
    const parts = [];
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
    recorder.start();
    for (let seconds = RECORDED; seconds > 0 && !signal.aborted; seconds -= 1) {
      left(seconds);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000);
        signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      });
    }
    recorder.stop();
    await stopped;
    return new File(parts, "your recording", { type: recorder.mimeType });
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}
