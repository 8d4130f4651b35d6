/** Geometry of strokes: lists of `[x, y]` in units of the canvas' side. */

export function bounds(strokes) {
  const points = strokes.flat();
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

/** Trace a stroke smoothly, through the middles of its segments; a point given twice stays a corner. */
export function trace(context, stroke, place) {
  const [x, y] = place(stroke[0]);
  context.moveTo(x, y);
  if (stroke.length === 1) context.lineTo(x, y);
  for (let i = 1; i < stroke.length - 1; i += 1) {
    const [px, py] = place(stroke[i]);
    const [qx, qy] = place(stroke[i + 1]);
    context.quadraticCurveTo(px, py, (px + qx) / 2, (py + qy) / 2);
  }
  if (stroke.length > 1) context.lineTo(...place(stroke.at(-1)));
}

/** Add a point unless it is where the pen already is. */
export function extend(stroke, [x, y]) {
  const clip = (value) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
  const point = [clip(x), clip(y)];
  const last = stroke.at(-1);
  if (!last || Math.hypot(last[0] - point[0], last[1] - point[1]) >= 0.004) stroke.push(point);
}

function dense(stroke, gap = 0.012) {
  const found = [stroke[0]];
  for (let i = 1; i < stroke.length; i += 1) {
    const [ax, ay] = stroke[i - 1];
    const [bx, by] = stroke[i];
    const parts = Math.max(1, Math.ceil(Math.hypot(bx - ax, by - ay) / gap));
    for (let k = 1; k <= parts; k += 1) found.push([ax + ((bx - ax) * k) / parts, ay + ((by - ay) * k) / parts]);
  }
  return found;
}

/** Take away what lies within `radius` of a point; a stroke rubbed in its middle becomes two. */
export function rub(strokes, [x, y], radius = 0.05) {
  const near = ([px, py]) => Math.hypot(px - x, py - y) <= radius;
  return strokes.flatMap((stroke) => {
    const fine = dense(stroke);
    if (!fine.some(near)) return [stroke];
    const pieces = [[]];
    for (const point of fine) {
      if (!near(point)) pieces.at(-1).push(point);
      else if (pieces.at(-1).length) pieces.push([]);
    }
    return pieces.filter((piece) => piece.length > 1);
  });
}
