"""`fastadapt show NAME`: train, measure and draw a showcase, and say the one sentence to remember."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from fastadapt.compare.contest import Stopped
from fastadapt.errors import ConfigError
from fastadapt.showcases.showcase import SHOWCASES, ShowSettings, show
from fastadapt.training import clock
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Show what a learned start does best; without a name, list the showcases. A stopped one goes on."""

    name: tyro.conf.Positional[str] = ""
    """The showcase, such as photo."""
    minutes: float | None = None
    """What all of it may take, measuring and drawing included; default: as the list says."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; auto takes a GPU if there is one and it pays."""
    data: Path | None = None
    """Folder that holds the data; default FASTADAPT_DATA, then the user's cache."""
    out: Path | None = None
    """Folder of trainings, result and pictures; default runs/show/NAME."""
    seed: int = 0
    """Seed of weights and training tasks."""
    own: Path | None = None
    """A picture of yours to be shown by photo."""
    small: bool = False
    """Tiny sizes, which say no more than in which direction it goes."""
    threads: int | None = None
    """CPU threads."""
    quiet: bool = False
    """Print the sentence and the files alone."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and show."""
    options = tyro.cli(ShowOptions, args=list(argv), prog="fastadapt show")
    if not options.name:
        for name, showcase in SHOWCASES.items():
            print(f"{name:<8} {showcase.what} (about {showcase.minutes:g} minutes)")
        return 0
    if options.name not in SHOWCASES:
        raise ConfigError(f"there is no showcase {options.name!r}; there are {', '.join(SHOWCASES)}")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    on_cpu = options.device == "auto" and SHOWCASES[options.name].small_nets
    minutes = SHOWCASES[options.name].minutes if options.minutes is None else options.minutes
    settings = ShowSettings(
        minutes=minutes,
        out=Path("runs/show", options.name) if options.out is None else options.out,
        seed=options.seed,
        device=choose_device("cpu" if on_cpu else options.device),
        data=options.data,
        own=options.own,
        quiet=options.quiet,
        small=options.small,
        began=clock.began(),
    )
    ways, before = logging.getLogger("fastadapt.engine"), logging.getLogger("fastadapt.engine").level
    ways.setLevel(logging.WARNING)  # each of a hundred short runs would say how its tasks are run
    try:
        shown, files = show(options.name, settings)
    except Stopped as stop:
        print("stopped; the same command goes on from there")
        return EXIT_CODES[stop.signal]
    finally:
        ways.setLevel(before)
    print(shown.sentence)
    print(f"written: {', '.join(str(file) for file in files)}")
    return 0
