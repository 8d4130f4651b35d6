"""`fastadapt demo`: the shipped model in the browser, on this machine alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from fastadapt.commands.serve import ServeSettings
from fastadapt.commands.serve import run as serve


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Draw, and watch a model learn from it: serve the shipped model `drawing` and open the page."""

    port: int = 8765
    """The port to listen at; 0 takes a free one."""
    open: bool = True
    """Open the page in a browser."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and serve."""
    settings = tyro.cli(DemoSettings, args=list(argv), prog="fastadapt demo")
    return serve(ServeSettings(runs=("drawing",), port=settings.port, open=settings.open))
