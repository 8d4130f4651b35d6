"""One picture of both fits: a row for each start, a column for some of the steps, and the signal itself."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastadapt.signals.fit import Both
from fastadapt.signals.signal import Signal

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

CELL, GAP, LABEL, LEFT = 144, 10, 22, 96
COLUMNS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
INK, SOFT, PAPER = (33, 31, 28), (92, 86, 76), (255, 255, 255)
TONES = {"learned": (63, 75, 208), "random": (194, 70, 31), "": (60, 60, 60)}


def columns(last: int) -> list[int]:
    """Return the steps that are shown of 0..last.

    Example:
        >>> columns(8)
        [0, 1, 2, 3, 5, 8]
    """
    return sorted({k for k in COLUMNS if k < last} | {last})


def strip(signal: Signal, shown: Sequence[Both]) -> bytes:
    """Return a PNG of both fits after some steps, beside the signal.

    Args:
        signal: what was fitted.
        shown: after the steps that get a column.
    """
    from PIL import Image, ImageDraw, ImageFont

    width = LEFT + (CELL + GAP) * (len(shown) + 1)
    height = LABEL + 2 * (CELL + LABEL + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    rows: Mapping[str, list[np.ndarray]] = {
        "learned": [both.learned.values for both in shown],
        "random": [both.random.values for both in shown],
    }
    for i, (name, cells) in enumerate(rows.items()):
        top = LABEL + i * (CELL + LABEL + GAP)
        pen.text((8, top + CELL / 2), f"{name}\nstart", INK, font, anchor="lm")
        for j, (both, values) in enumerate(zip(shown, cells, strict=True)):
            left = LEFT + j * (CELL + GAP)
            decibels = (both.learned if name == "learned" else both.random).decibels
            sheet.paste(_cell(signal, values, name), (left, top))
            pen.text((left + CELL / 2, top + CELL + 4), f"{decibels:.1f} dB", SOFT, font, anchor="ma")
            if i == 0:
                said = "no step" if both.step == 0 else f"{both.step} step{'s' * (both.step > 1)}"
                pen.text((left + CELL / 2, 4), said, INK, font, anchor="ma")
    left = LEFT + len(shown) * (CELL + GAP)
    true = signal.target / 255 if signal.kind == "photo" else signal.target
    sheet.paste(_cell(signal, true, ""), (left, LABEL))
    pen.text((left + CELL / 2, 4), f"the {signal.kind}", INK, font, anchor="ma")
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _cell(signal: Signal, values: np.ndarray, name: str) -> "Picture":
    from PIL import Image, ImageDraw

    if signal.kind == "photo":
        pixels = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.BICUBIC)
    cell = Image.new("RGB", (CELL, CELL), (246, 243, 236))
    pen = ImageDraw.Draw(cell)
    for x, (low, high) in enumerate(envelope(values, CELL)):
        pen.line((x, CELL / 2 * (1 - high), x, CELL / 2 * (1 - low)), TONES[name])
    return cell


def envelope(values: np.ndarray, columns: int) -> list[tuple[float, float]]:
    """Return the lowest and the highest sample of each column of a waveform.

    Example:
        >>> envelope(np.array([0.0, 0.5, -0.5, 0.25]), 2)
        [(0.0, 0.5), (-0.5, 0.25)]
    """
    parts = np.array_split(values, min(columns, len(values)))
    return [(float(part.min()), float(part.max())) for part in parts]
