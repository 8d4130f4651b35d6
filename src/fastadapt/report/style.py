"""How every picture looks, and the only door to matplotlib.

Pictures are drawn on `Figure` objects without pyplot, so that nothing global changes and no window opens.
Colours are those of Okabe and Ito, which people with any common colour blindness can tell apart; each comes
with its own dashes and marker, so that a picture printed in grey says the same.
"""

import io
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastadapt.atomic import explain
from fastadapt.errors import MissingExtraError

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, RED, PINK, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#767676"

_LINES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, "-", "o"),
    (RED, (0, (5, 1.5)), "s"),
    (GREEN, (0, (1.5, 1.2)), "^"),
    (PINK, (0, (6, 1.5, 1.5, 1.5)), "D"),
    (ORANGE, (0, (3, 1.2, 1, 1.2, 1, 1.2)), "v"),
    (SKY, (0, (8, 2)), "P"),
    (GREY, (0, (1, 2)), "X"),
)


def need_matplotlib() -> None:
    """Check that matplotlib is there.

    Raises:
        MissingExtraError: if it is not; the message holds the install command.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'fastadapt[plot]'") from error


def seconds_to_draw() -> float:
    """Load now what draws, which takes a while at times, and return about how long a report will; 0 without it."""
    since = time.monotonic()
    try:
        need_matplotlib()
    except MissingExtraError:
        return 0.0
    return max(2.0, 2 * (time.monotonic() - since))


def figure(width: float, height: float) -> Any:
    """Return an empty matplotlib `Figure` of that many inches, whose parts make room for each other.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    return drawn


def panels_with_legend(drawn: Any, rows: int, columns: int, **shared: Any) -> tuple[Any, Any]:
    """Return a grid of axes `[rows, columns]` and the strip above it, which `add_legend` fills.

    A strip of its own keeps one legend for all panels away from every curve.
    """
    share = 0.32 / (drawn.get_figheight() - 0.8)
    strip, body = drawn.subfigures(2, 1, height_ratios=(share, 1 - share))
    return body.subplots(rows, columns, squeeze=False, **shared), strip


def add_legend(strip: Any, panels: Any) -> None:
    """Write one legend for all panels, each label once, as large as the strip is wide."""
    pairs = [pair for axes in panels.flat for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    each = {label: handle for handle, label in reversed(pairs)}
    order = dict.fromkeys(label for _, label in pairs)
    handles = [each[label] for label in order]
    sizes = ((9, 2.8, 2.0), (9, 2.4, 1.2), (8, 2.2, 1.0), (7, 2.0, 0.8))
    for size, length, gap in sizes:
        legend = strip.legend(
            handles,
            list(order),
            loc="center",
            ncols=len(order),
            fontsize=size,
            frameon=False,
            handlelength=length,
            columnspacing=gap,
        )
        if legend.get_window_extent().width <= strip.bbox.width or size == sizes[-1][0]:
            return
        legend.remove()


def logarithmic(axes: Any, low: float, high: float) -> None:
    """Make the y axis logarithmic from `low` to `high`, with enough ticks, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    decades = math.log10(high / low)
    subs = (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=subs if decades < 6 else (1.0,), numticks=12))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def line_style(number: int) -> dict[str, Any]:
    """Return colour, dashes and marker of the line with that number, as keyword arguments of `Axes.plot`."""
    color, dashes, marker = _LINES[number % len(_LINES)]
    return {"color": color, "linestyle": dashes, "marker": marker, "markersize": 4.5}


def tidy(axes: Any, *, title: str = "", x: str = "", y: str = "") -> None:
    """Give axes their title and labels, a pale grid, and no frame where nothing is measured."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def note(drawn: Any, sentences: Sequence[str]) -> None:
    """Write sentences below everything else in the figure, one a line; none leaves no room."""
    if sentences:
        drawn.supxlabel("\n".join(sentences), fontsize=8, color="0.25", x=0.01, ha="left")


def only_note(drawn: Any, sentence: str) -> None:
    """Say in the middle of a figure why it is empty."""
    drawn.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=11, color="0.25")


def save_figure(drawn: Any, path: Path | str) -> Path:
    """Write a figure as PNG, whole or not at all; the same drawing gives the same bytes.

    Raises:
        CheckpointError: if the file can't be written.
    """
    picture = io.BytesIO()
    drawn.savefig(picture, format="png", dpi=150, metadata={"Software": None})
    return save_picture(picture.getvalue(), Path(path))


def save_vector(drawn: Any, path: Path | str) -> Path:
    """Write a figure as SVG, whole or not at all; the same drawing gives the same bytes.

    Raises:
        CheckpointError: if the file can't be written.
    """
    import matplotlib

    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fastadapt"}):
        drawn.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return save_picture(picture.getvalue(), Path(path))


def save_picture(content: bytes, path: Path) -> Path:
    """Write a picture, whole or not at all.

    Raises:
        CheckpointError: if the file can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise explain(error, path) from error
    return path


def number(value: Any) -> float:
    """Return a logged value as a float; not-a-number for what is missing or is no number.

    Example:
        >>> number("inf"), number(None), number(2)
        (inf, nan, 2.0)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
