/**
 * Tasks to begin with, as strokes on a grid of 100: "x,y x,y ..." with "/" between strokes. A point that stands twice is
 * a corner. The last entry of a set is its question.
 */
const points = (text) =>
  text.split("/").map((stroke) => stroke.trim().split(/\s+/).map((pair) => pair.split(",").map((value) => Number(value) / 100)));

const ring = (x, y, r, from = 0) =>
  Array.from({ length: 19 }, (_, k) => {
    const angle = ((from + k * 22.5) * Math.PI) / 180;
    const wobble = r * (1 + 0.035 * Math.sin(2 * angle + from));
    return `${Math.round(10 * (x + wobble * Math.cos(angle))) / 10},${Math.round(10 * (y + wobble * Math.sin(angle))) / 10}`;
  }).join(" ");

const SETS = {
  Shapes: {
    fish: "76,51 66,40 52,33 37,34 24,42 15,52 25,62 39,68 53,66 66,60 76,51 89,37 89,37 86,52 90,66 90,66 76,51 / 29,48 31,49",
    house: "24,47 23,83 23,83 77,82 77,82 76,46 / 13,54 13,54 50,17 50,17 87,53 / 43,82 43,61 43,61 58,61 58,61 58,82",
    star: "50,13 50,13 71,83 71,83 14,39 14,39 86,38 86,38 29,83 29,83 50,13",
    "": "74,47 62,36 47,32 32,36 18,50 30,63 46,68 61,62 74,47 87,34 87,34 87,62 87,62 74,47 / 32,46 33,47",
  },
  "Greek letters": {
    alpha: "80,24 70,44 56,64 40,74 26,68 21,52 28,36 42,30 55,38 64,55 72,70 83,76",
    omega: "28,30 18,46 19,64 30,75 42,68 49,52 49,46 49,52 57,69 70,75 81,63 82,46 73,30",
    psi: "19,26 21,46 32,60 50,64 68,59 79,45 81,25 / 51,12 49,90",
    "": "31,33 20,45 17,60 26,72 40,71 50,56 51,44 51,56 60,72 73,71 83,59 80,44 70,34",
  },
  Smileys: {
    happy: `${ring(50, 50, 38, -80)} / 38,38 38,45 / 62,37 62,45 / 30,57 38,69 50,74 62,69 70,56`,
    surprised: `${ring(50, 50, 38, -100)} / 37,36 37,43 / 63,36 63,43 / ${ring(50, 66, 10)}`,
    grumpy: `${ring(50, 51, 38, -60)} / 29,33 45,42 / 71,33 55,42 / 33,70 42,64 50,63 58,64 68,71`,
    "": `${ring(51, 50, 39, -90)} / 37,36 37,43 / 64,37 64,44 / 31,58 40,70 51,73 62,69 71,57`,
  },
};

export const names = Object.keys(SETS);

/** Return a set as a task for `Task.replace`. */
export function example(name) {
  const rows = Object.entries(SETS[name]);
  const sample = (text) => ({ strokes: points(text), image: null });
  const classes = rows.filter(([title]) => title).map(([title, text]) => ({ name: title, samples: [sample(text)] }));
  return { classes, queries: rows.filter(([title]) => !title).map(([, text]) => sample(text)) };
}
