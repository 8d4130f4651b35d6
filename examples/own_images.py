"""Draw polygons and stars, train on their folders, and adapt to three kinds that were kept from the training.

python examples/own_images.py              # about a minute
python examples/own_images.py --steps 5 --tasks 20
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from fastadapt.cli import main as fastadapt

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/own-images"), help="output folder (default: %(default)s)")
parser.add_argument("--steps", type=int, default=300, help="outer steps (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=200, help="test tasks (default: %(default)s)")
KINDS = [(corners, depth, fill) for corners in (3, 4, 5, 6, 7, 9) for depth in (0.95, 0.6, 0.3) for fill in (None, 120)]
NEW = KINDS[4::14]  # three kinds that are kept from the training


def shape(rng, corners, depth, fill):
    """Draw a star of so many corners, somewhere, turned somehow."""
    angles = rng.uniform(0, 2 * np.pi) + np.arange(2 * corners) * np.pi / corners
    radii = np.where(np.arange(2 * corners) % 2, depth * np.cos(np.pi / corners), 1) * rng.uniform(18, 26)
    points = rng.uniform(28, 36, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    image = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=fill, outline=0, width=3)
    return image


def draw(folder, kinds, count, rng):
    for kind in kinds:
        place = folder / "{}-corners-{}-{}".format(kind[0], kind[1], "grey" if kind[2] else "white")
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shape(rng, *kind).save(place / f"{i}.png")


def main():
    args, rng = parser.parse_args(), np.random.default_rng(0)
    out = args.out
    torch.set_num_threads(1)  # a network this small is faster on one thread
    draw(out / "shapes", [kind for kind in KINDS if kind not in NEW], 12, rng)
    draw(out / "new", NEW, 2, rng)
    draw(out / "asked", NEW, 2, rng)
    train = f"train --data {out}/shapes --ways 3 --shots 2 --run {out}/run --net.width 16 --method.route loop"
    train += f" --training.steps {args.steps} --protocol.tasks {args.tasks} --protocol.steps 3 --validation-tasks 20"
    asked = " ".join(map(str, sorted((out / "asked").rglob("*.png"))))
    adapt = f"adapt {out}/run {out}/new --out {out}/adapted --overwrite"
    for words in (f"check {out}/shapes", train, adapt, f"predict {out}/adapted {asked}"):
        print(f"\n$ fastadapt {words}", flush=True)
        if code := fastadapt(words.split()):
            raise SystemExit(code)


if __name__ == "__main__":
    main()
