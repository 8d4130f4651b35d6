"""`fastadapt fit FILE`: a photograph or a sound of the user's, fitted from a learned start and from a random one."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from fastadapt.atomic import write_text
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError
from fastadapt.report.style import save_picture
from fastadapt.results.evaluation_json import json_values
from fastadapt.showcases.sound import write_wav
from fastadapt.signals.example import example
from fastadapt.signals.fit import HEADLINES, METRICS, MOST_STEPS, USUAL_STEPS, Both, fits
from fastadapt.signals.picture import SIDE
from fastadapt.signals.signal import SECONDS, Signal, Sound, read_signal
from fastadapt.signals.starts import load_pair
from fastadapt.signals.strip import columns, strip
from fastadapt.signals.told import sentence
from fastadapt.version import __version__


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Fit a photograph (PNG, JPEG, WebP, GIF) or a sound (WAV) of yours from a learned start and from a random one."""

    file: tyro.conf.Positional[Path | None] = None
    """The picture or sound; without one, a drawn example."""
    example: Literal["photo", "sound"] = "photo"
    """What is fitted where no file is given."""
    steps: int | None = None
    """Gradient steps; default 20 for a photograph, 10 for a sound."""
    out: Path | None = None
    """Folder of the picture, the sounds and the figures; default runs/fit/NAME."""
    size: int = SIDE
    """Pixels a side of the photograph's middle square, 16 to 256."""
    seconds: float = SECONDS
    """Length of the sound's loudest stretch, at most 30."""
    seed: int = 0
    """Seed of the random start."""
    threads: int | None = None
    """CPU threads."""
    json: bool = False
    """Print the figures as JSON, and nothing else."""
    quiet: bool = False
    """Print the sentence and the files alone."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and fit."""
    options = tyro.cli(FitOptions, args=list(argv), prog="fastadapt fit")
    if options.threads is not None:
        if options.threads < 1:
            raise ConfigError(f"--threads must be at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
    if options.steps is not None and not 0 <= options.steps <= MOST_STEPS:
        raise ConfigError(f"--steps must be 0..{MOST_STEPS}, got {options.steps}")
    if options.seed < 0:
        raise ConfigError(f"--seed must be a whole number of at least 0, got {options.seed}")
    signal = _signal(options)
    steps = USUAL_STEPS[signal.kind] if options.steps is None else options.steps
    name = f"example-{signal.kind}" if options.file is None else options.file.stem or "file"
    out = Path("runs/fit", name) if options.out is None else options.out
    logging.getLogger("fastadapt.engine").setLevel(logging.WARNING)
    since = time.monotonic()
    found = _watched(signal, steps, options)
    record = _record(signal, found, options, time.monotonic() - since)
    files = _written(signal, found, record, out)
    if options.json:
        print(json.dumps(json_values(record), indent=1))
    else:
        print(record["sentence"])
        print(f"written: {', '.join(shown(file) for file in files)}")
    return 0


def _signal(options: FitOptions) -> Signal:
    if options.file is None:
        return example(options.example, options.size, options.seconds)
    return read_signal(options.file, options.size, options.seconds)


def _watched(signal: Signal, steps: int, options: FitOptions) -> list[Both]:
    """Return the fits of the steps that are drawn, with `values` left out of the others; show each as it comes."""
    kept, found = {*columns(steps), HEADLINES[signal.kind]}, []
    stages = fits(signal, load_pair(signal.kind, options.seed), steps)
    if not (options.quiet or options.json):
        stages = _live(signal, stages, steps) if _coloured() else _printed(signal, stages)
    for both in stages:
        found.append(both if both.step in kept else both.without_values())
    return found


def _coloured() -> bool:
    """Return whether pictures can be shown: in a terminal that has colours."""
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    console = Console()
    return console.color_system is not None and not console.no_color


def _printed(signal: Signal, stages: Iterable[Both]) -> Iterator[Both]:
    """Print a line for each step."""
    print(f"step  learned start  random start  ({METRICS[signal.kind]})")
    for both in stages:
        print(f"{both.step:>4}  {both.learned.decibels:>10.1f} dB  {both.random.decibels:>9.1f} dB", flush=True)
        yield both


def _live(signal: Signal, stages: Iterable[Both], steps: int) -> Iterator[Both]:
    """Show both fits where they stand on the screen."""
    from rich.live import Live

    from fastadapt.signals.screen import screen

    with Live(auto_refresh=False) as live:
        for both in stages:
            live.update(screen(signal, both, steps, live.console.width), refresh=True)
            yield both


def _record(signal: Signal, found: list[Both], options: FitOptions, seconds: float) -> dict[str, Any]:
    learned, random = ([both.learned.decibels for both in found], [both.random.decibels for both in found])
    return {
        "file": None if options.file is None else str(options.file),
        **signal.facts(),
        "metric": METRICS[signal.kind],
        "learned": [round(value, 3) for value in learned],
        "random": [round(value, 3) for value in random],
        "sentence": sentence(signal.kind, learned, random),
        "seed": options.seed,
        "seconds of computing": round(seconds, 3),
        "made by": {"fastadapt": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()},
    }


def _written(signal: Signal, found: list[Both], record: dict[str, Any], out: Path) -> list[Path]:
    """Write the picture, the sounds and the figures."""
    last = len(found) - 1
    files = [save_picture(strip(signal, [found[k] for k in columns(last)]), out / "steps.png")]
    if isinstance(signal, Sound):
        files.append(write_wav(out / "sound.wav", signal.target))
        for k in sorted({min(HEADLINES[signal.kind], last), last}):
            for name, fit in (("learned", found[k].learned), ("random", found[k].random)):
                files.append(write_wav(out / f"{name}-{k}-steps.wav", fit.values))
    write_text(out / "fit.json", json.dumps(json_values(record), indent=1) + "\n")
    return [*files, out / "fit.json"]
