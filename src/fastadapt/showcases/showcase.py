"""A showcase: what it is given, what it gives, and the table of all of them."""

import importlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastadapt.atomic import write_text
from fastadapt.errors import ConfigError
from fastadapt.report.style import need_matplotlib, save_figure, save_vector
from fastadapt.results.evaluation_json import json_values
from fastadapt.version import __version__


@dataclass(frozen=True)
class ShowSettings:
    """What a showcase is given.

    Args:
        minutes: what all of it may take; the trainings get shares of it, and at least 32 test tasks are measured.
        out: the folder of trainings, results and pictures; a stopped showcase goes on from there.
        seed: of weights and training tasks.
        device: where tensors live.
        data: where data are looked for; None is FASTADAPT_DATA, then the user's cache.
        own: a file of the user to be shown.
        quiet: show nothing while it trains.
        small: sizes that say no more than in which direction it goes.
        began: when the command began, as `time.monotonic()` tells.
    """

    minutes: float
    out: Path
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    data: Path | None = None
    own: Path | None = None
    quiet: bool = False
    small: bool = False
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise ConfigError(f"--minutes must be a finite number above 0, got {self.minutes}")
        if self.seed < 0:
            raise ConfigError(f"--seed must be a whole number of at least 0, got {self.seed}")

    @property
    def left(self) -> float:
        """Seconds until everything is to be done."""
        return 60 * self.minutes - (time.monotonic() - self.began)

    def facts(self) -> dict[str, Any]:
        """Return what makes a showcase another one; the folder of the data and the user's file do not."""
        return {"minutes": self.minutes, "seed": self.seed, "device": self.device.type, "small": self.small}


@dataclass(frozen=True)
class Shown:
    """What a showcase gives.

    Args:
        result: for `result.json`: plain values, measured figures task by task.
        figure: a matplotlib figure.
        sentence: the one to remember, with the point where the rivals catch up.
    """

    result: dict[str, Any]
    figure: Any
    sentence: str


@dataclass(frozen=True)
class Showcase:
    """An entry of the table.

    Args:
        module: where `run(settings: ShowSettings) -> Shown` stands; imported when it is asked for.
        minutes: what it takes unless said otherwise.
        what: a line for a list of them.
        own: whether it can show a file of the user.
        small_nets: whether its networks are too small for anything but the CPU.
    """

    module: str
    minutes: float
    what: str
    own: bool = False
    small_nets: bool = False


SHOWCASES: dict[str, Showcase] = {
    "photo": Showcase("fastadapt.showcases.photo", 12, "a photograph in two gradient steps", own=True),
    "speech": Showcase("fastadapt.showcases.speech", 6, "a tenth of a second of speech in three gradient steps"),
    "duel": Showcase(
        "fastadapt.showcases.duel", 15, "three problems on which a straight line is the rival to beat", small_nets=True
    ),
    "language": Showcase("fastadapt.showcases.language", 40, "one page of a new language, and reading on"),
}


def show(name: str, settings: ShowSettings) -> tuple[Shown, list[Path]]:
    """Run a showcase, or go on with it, and write `result.json` and its figure as `report/NAME.png` and `.svg`.

    Returns:
        What it gives, and the files.

    Raises:
        ConfigError: for a name that is none, or a folder that holds another showcase.
    """
    if name not in SHOWCASES:
        raise ConfigError(f"there is no showcase {name!r}; there are {', '.join(SHOWCASES)}")
    if settings.own is not None and not SHOWCASES[name].own:
        raise ConfigError(f"--own is a file of yours to be shown, and {name} takes none; leave it out")
    need_matplotlib()  # a missing one is told before anything is trained
    _claim(settings.out, {"showcase": name, **settings.facts()})
    shown: Shown = importlib.import_module(SHOWCASES[name].module).run(settings)
    result = settings.out / "result.json"
    made = {"fastadapt": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    record = {"showcase": name, **settings.facts(), "made by": made, "sentence": shown.sentence, **shown.result}
    write_text(result, json.dumps(json_values(record), indent=1) + "\n")
    picture = save_figure(shown.figure, settings.out / "report" / f"{name}.png")
    vector = save_vector(shown.figure, settings.out / "report" / f"{name}.svg")
    return shown, [result, picture, vector]


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Write whose folder it is, or look whether it is that of the same showcase."""
    file = folder / "showcase.json"
    if file.is_file():
        try:
            was = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise ConfigError(f"{file} can't be read; name another folder with --out, or remove it") from None
        if was != facts:
            changed = ", ".join(f"{k}: {was.get(k)} -> {v}" for k, v in facts.items() if was.get(k) != v)
            raise ConfigError(
                f"{folder} holds a showcase of other settings ({changed}); give those to go on with it, or name "
                "another folder with --out"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and holds no showcase; name another folder with --out")
    write_text(file, json.dumps(facts, indent=1) + "\n")
