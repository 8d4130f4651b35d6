/** A picture or a waveform on a canvas. */

/** Draw a bitmap, or samples -1..1 as their lowest and highest values in each column. */
export function paint(canvas, kind, values) {
  if (kind === "photo") {
    if (canvas.width !== values.width || canvas.height !== values.height) Object.assign(canvas, { width: values.width, height: values.height });
    canvas.getContext("2d").drawImage(values, 0, 0);
    return;
  }
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((pixels) => Math.max(1, Math.round(pixels * ratio)));
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  const each = values.length / width;
  for (let x = 0; x < width; x += 1) {
    let [low, high] = [1, -1];
    for (let k = Math.floor(x * each); k < Math.max(Math.floor(x * each) + 1, Math.floor((x + 1) * each)); k += 1) {
      low = Math.min(low, values[k]);
      high = Math.max(high, values[k]);
    }
    const y = (value) => ((1 - Math.min(1, Math.max(-1, value))) / 2) * height;
    context.fillRect(x, y(high), 1, Math.max(1, y(low) - y(high)));
  }
}
