"""`fastadapt serve RUN...`: trained runs behind HTTP, with a page to try them."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fastadapt.commands.backbone_options import BackboneOptions
from fastadapt.errors import ConfigError, MissingExtraError

_NEEDED = ("fastapi", "uvicorn", "multipart")


@dataclass(frozen=True, kw_only=True)
class ServeSettings(BackboneOptions):
    """Serve trained runs: a REST API, and a page that uses it."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Folders of trained runs; drawing is the model that comes with fastadapt."""
    beside: tuple[str, ...] = ()
    """Further runs on the tasks of the first, offered on the page as methods of it, to be compared side by side."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8765
    """Its port; 0 takes a free one."""
    token: str | None = None
    """Ask clients for this word (Authorization: Bearer TOKEN); by default FASTADAPT_TOKEN, where it is set."""
    workers: int | None = None
    """Threads that compute; by default one fewer than there are cores, at least two."""
    open: bool = False
    """Open the page in a browser."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and serve."""
    return run(tyro.cli(ServeSettings, args=list(argv), prog="fastadapt serve"))


def run(settings: ServeSettings) -> int:
    """Serve as the settings say, until Ctrl-C or SIGTERM.

    Raises:
        FastadaptError: if a run or the address can't be used, or what serving needs is not installed.
    """
    if not settings.runs:
        raise ConfigError("there is nothing to serve; name at least one run, or drawing")
    if settings.workers is not None and settings.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {settings.workers}")
    check_extra()
    from fastadapt.serve.run import serve
    from fastadapt.serve.served import load_served

    backbone = None if settings.backbone is None else settings.find()
    return serve(
        [load_served(name, () if number else settings.beside, backbone) for number, name in enumerate(settings.runs)],
        host=settings.host,
        port=settings.port,
        token=settings.token,
        workers=settings.workers,
        open_page=settings.open,
    )


def check_extra() -> None:
    """Raise `MissingExtraError` unless what serving needs is installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"serving needs {', '.join(missing)}: pip install 'fastadapt[serve]'")
