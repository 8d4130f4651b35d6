"""Both fits in the terminal: pictures of coloured half blocks, waveforms of bars, and how near each is."""

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fastadapt.signals.fit import Both
from fastadapt.signals.signal import Signal
from fastadapt.signals.strip import envelope

WIDEST = 32  # columns of a picture; two pixels lie above each other in a row
GAP = 2
BARS = " ▁▂▃▄▅▆▇█"


def screen(signal: Signal, both: Both, steps: int, width: int = 100) -> Group:
    """Return what is shown after a step: the signal, the fit from the learned start, and that from the random one.

    Args:
        signal: what is fitted.
        both: the fits.
        steps: of them all.
        width: columns of the terminal.
    """
    table = Table.grid(padding=(0, GAP))
    each = max(8, min(WIDEST, (width - 6 * GAP) // 3))
    true = signal.target / 255 if signal.kind == "photo" else signal.target
    table.add_row(*(seen(signal, values, each) for values in (true, both.learned.values, both.random.values)))
    table.add_row(
        Text(f"the {signal.kind}", "bold"),
        Text(f"learned start {both.learned.decibels:.1f} dB", "bold"),
        Text(f"random start {both.random.decibels:.1f} dB", "bold"),
    )
    return Group(table, Text(f"step {both.step} of {steps}", "dim"))


def seen(signal: Signal, values: np.ndarray, width: int) -> Text:
    """Return a signal as characters, so many columns wide."""
    return _picture(values, width - width % 2) if signal.kind == "photo" else _wave(values, width)


def _picture(values: np.ndarray, width: int) -> Text:
    from PIL import Image

    pixels = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    small = np.asarray(Image.fromarray(pixels).resize((width, width), Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
        text.append("\n")
    text.right_crop(1)
    return text


def _wave(values: np.ndarray, width: int) -> Text:
    heights = [max(-low, high) for low, high in envelope(values, width)]
    return Text("".join(BARS[min(len(BARS) - 1, round(max(0.0, height) * (len(BARS) - 1)))] for height in heights))
