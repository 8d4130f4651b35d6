/**
 * Turn a photograph of a drawing into ink on paper: a pixel is ink if it is clearly darker than its surroundings, so a
 * shadow over the page does no harm. A drawing that is black and white already stays as it is.
 */

function grey(data, count) {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 1) values[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (mean < 100) for (let i = 0; i < count; i += 1) values[i] = 255 - values[i]; // light on dark
  return values;
}

// sums[y][x] is the sum of all values above and left of (x, y)
function sums(values, side) {
  const table = new Float64Array((side + 1) ** 2);
  for (let y = 0; y < side; y += 1) {
    let row = 0;
    for (let x = 0; x < side; x += 1) {
      row += values[y * side + x];
      table[(y + 1) * (side + 1) + x + 1] = table[y * (side + 1) + x + 1] + row;
    }
  }
  return table;
}

export function inkOnPaper(context, side) {
  const pixels = context.getImageData(0, 0, side, side);
  const values = grey(pixels.data, side * side);
  const table = sums(values, side);
  const reach = Math.round(side / 6);
  const at = (x, y) => table[y * (side + 1) + x];
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const [l, r] = [Math.max(0, x - reach), Math.min(side, x + reach + 1)];
      const [t, b] = [Math.max(0, y - reach), Math.min(side, y + reach + 1)];
      const around = (at(r, b) - at(l, b) - at(r, t) + at(l, t)) / ((r - l) * (b - t));
      const value = values[y * side + x];
      const tone = value < 0.8 * around || value < 50 ? 0 : 255;
      pixels.data.fill(tone, 4 * (y * side + x), 4 * (y * side + x) + 3);
    }
  }
  context.putImageData(pixels, 0, 0);
}
