"""One number: minutes from an empty folder with the data to MAML's published accuracy on Omniglot, 5-way 1-shot.

    FASTADAPT_DATA=DIR python benchmarks/speedrun.py --what "what changed since the last entry"
    FASTADAPT_DATA=DIR python benchmarks/speedrun.py --minutes 30         # trains no longer than that
    python benchmarks/speedrun.py --smoke --run FOLDER                    # tiny, on made images: does it work?

The preset `maml-omniglot-5w1s` trains until it has 98.3 % on the 600 test tasks of the published protocol. That is the
lower end of the published 98.7 ± 0.4, which `fastadapt.published` holds.

**When it is tested.** The test tasks decide nothing: every 500 outer steps 200 validation tasks, of characters that
neither train nor test, are measured, and only where these say 98.3 % are the weights of that step tested. Where the
test then says less, training goes on, and is tested again only where a validation is better than those before every
earlier test. The entry has all tests, so that luck by trying would be seen.

**The clock** runs from the start of the process: imports, decoding the images, looking, compiling, validating and every
test are in it. What is decoded and compiled is kept below the folder of the run, so an empty folder has none of it. The
same command goes on with a run that was stopped or killed, and the time of all its lives counts.

Each run adds an entry to `benchmarks/results/speedrun.json`, one that reached nothing within `--minutes` too; its
accuracy is then that of the last validation. `python benchmarks/readme_results.py` writes the table.
"""
# ruff: noqa: E402

import time

BEGAN = time.monotonic()  # before torch is imported, which takes seconds

import argparse
import json
import os
import platform
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastadapt import ClassImages, Conv4, Learner, Protocol, TaskSource, Training, cross_entropy, evaluate, meta_train
from fastadapt.atomic import write_text
from fastadapt.methods.maml import MAML
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.published.result_file import made
from fastadapt.training.budget import Budget
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.log import read_metrics

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "speedrun.json"
PRESET = "maml-omniglot-5w1s"
UNTIMED = 0.1
"""Share of the minutes that is kept for a validation before the first was timed."""
TICK = 1.0
"""Seconds between two notes of the clock: what a kill can lose of it."""


@dataclass(frozen=True)
class Race:
    """Hold what runs against the clock: a learner, its tasks, how they are measured, and the accuracy to reach."""

    learner: Learner
    training: Training
    train: TaskSource
    val: TaskSource
    test: TaskSource
    protocol: Protocol
    validation_tasks: int
    bar: float
    of: str

    @property
    def validation(self) -> Protocol:
        """The test's, up to the inner steps whose result counts, as later ones cost time, and on fewer tasks."""
        fewer = {"tasks": self.validation_tasks, "steps": self.protocol.report}
        return replace(self.protocol, name="validation-v1", split="val", **fewer)


def published(data: Path | None) -> Race:
    """Return the published run, its protocol and the lower end of its published interval."""
    experiment = EXPERIMENTS[PRESET]
    (measurement,), config = experiment.measurements, experiment.config
    protocol = measurement.protocol
    claim = measurement.claims[protocol.report or 0]
    loaded = config.data.load(data)
    train, val, test = (config.data.source(part, loaded) for part in ("train", "val", "test"))
    torch.manual_seed(config.training.seed)
    of = f"the lower end of {claim.text(percent=True)} ({claim.spread_is}; {claim.source})"
    bar = round(claim.value - (claim.spread or 0.0), 6)
    return Race(config.build(), config.training, train, val, test, protocol, config.validation_tasks, bar, of)


def smoke(bar: float) -> Race:
    """Return a race of seconds on made images, with a bar of its own."""
    torch.manual_seed(0)
    learner = MAML(Conv4(1, 4, 5), cross_entropy, steps=1, test_steps=2)
    training = Training(steps=6, meta_batch=2, validate_every=2, checkpoint_every=1, log_every=1)
    protocol = Protocol("smoke-v1", tasks=8, steps=3, report=2, ddof=0)
    train, val, test = (made_images(part) for part in ("train", "val", "test"))
    return Race(learner, training, train, val, test, protocol, 8, bar, "a smoke test")


def made_images(part: str) -> ClassImages:
    """Return ten classes of noisy images, others for each part."""
    rng = np.random.default_rng(list(part.encode()))
    prototypes = rng.integers(0, 256, (10, 1, 28, 28))
    images = np.clip(prototypes + rng.normal(0, 20, (10, 4, 28, 28)), 0, 255).astype(np.uint8).reshape(-1, 28, 28)
    names = tuple(f"{part}-{i}" for i in range(10))
    return ClassImages(torch.from_numpy(images), np.arange(40) // 4, names, ways=5, shots=1, queries=1)


class Clock:
    """Count the seconds of all lives of a run; the file is written while they pass, within a `with` block.

    Args:
        path: the file; a list of lives, each with its seconds and the machine's load when it began.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        self.load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
        self._over = threading.Event()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Clock":
        self.note()
        self._ticks.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._ticks.join()
        self.note()

    @property
    def lives(self) -> list[dict[str, float]]:
        """All of them, with the present one."""
        return [*self.before, {"seconds": round(time.monotonic() - BEGAN, 1), "load": self.load}]

    @property
    def seconds(self) -> float:
        """Of all lives."""
        return sum(life["seconds"] for life in self.before) + time.monotonic() - BEGAN

    def note(self) -> None:
        """Write the file."""
        write_text(self.path, json.dumps(self.lives) + "\n")

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            self.note()


class Until(Budget):
    """Let a training end where its last validation is worth a test, or where the minutes leave time for one more.

    Nothing is kept back for a test, which few runs come to: it may end after the minutes.
    """

    def __init__(self, run: "Run", minutes: float | None) -> None:
        super().__init__(None)
        self.run, self.minutes = run, minutes
        self.reached = False
        self._validating = 0.0 if minutes is None else 60 * minutes * UNTIMED  # until one was timed

    @property
    def out_of_time(self) -> bool:
        """Whether the minutes are over, but for a validation."""
        return self.minutes is not None and self.run.clock.seconds + self._validating >= 60 * self.minutes

    @property
    def over(self) -> bool:
        """Whether to train no further for now."""
        return self.reached or self.out_of_time

    def validated(self, seconds: float) -> None:
        """Look at what the validation said."""
        self._validating = seconds
        self.reached = self.run.worth_a_test


class Run:
    """Keep what a folder has of a race: the clock, the validations and the tests so far."""

    def __init__(self, folder: Path, race: Race, clock: Clock) -> None:
        self.folder, self.race, self.clock = folder, race, clock
        self._tests = folder / "tests.json"

    @property
    def tests(self) -> list[dict[str, Any]]:
        """What was tested: the step, its validation, accuracy and interval."""
        return json.loads(self._tests.read_text(encoding="utf-8")) if self._tests.is_file() else []

    @property
    def validation(self) -> dict[str, Any] | None:
        """The record of the last validation."""
        path = self.folder / "metrics.jsonl"
        records = [r for r in read_metrics(path) if "val accuracy" in r] if path.is_file() else []
        return records[-1] if records else None

    @property
    def worth_a_test(self) -> bool:
        """Whether the last validation says that the bar is reached, and more than before any earlier test."""
        last = self.validation
        return last is not None and last["val accuracy"] >= self.race.bar and not self._tried(last["val accuracy"])

    @property
    def reached(self) -> bool:
        """Whether a test said that the bar is reached."""
        return any(test["accuracy"] >= self.race.bar for test in self.tests)

    def _tried(self, accuracy: float) -> bool:
        return any(test["validation"] >= accuracy for test in self.tests)

    def test(self) -> None:
        """Measure the present weights on the test tasks."""
        race = self.race
        last = self.validation or {}
        print(f"validation says {100 * last['val accuracy']:.2f} % after step {last['step']}: testing", flush=True)
        result = evaluate(race.learner.eval(), race.test, race.protocol)
        facts = {"step": last["step"], "validation": last["val accuracy"], "accuracy": round(result.result, 6)}
        facts |= {"ci95": round(result.half, 6), "tasks": len(result.per_task), "protocol": result.protocol.name}
        write_text(self._tests, json.dumps([*self.tests, facts], indent=1) + "\n")
        print(result, flush=True)


def run_on(run: Run, minutes: float | None) -> str:
    """Train and test until the bar, the minutes or the steps are reached; return how it ended."""
    race = run.race
    while True:
        until = Until(run, minutes)
        trained = meta_train(
            race.learner,
            race.train,
            replace(race.training, minutes=minutes),
            validation=race.val,
            protocol=race.validation,
            folder=run.folder,
            budget=until,
        )
        if trained.stopped in EXIT_CODES:
            return trained.stopped
        if run.worth_a_test:  # the last validation of a training that ran out of time or steps counts as well
            run.test()
        if run.reached or until.out_of_time or trained.step >= race.training.steps:
            return "finished"


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def entry(run: Run, what: str, by: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a run that has ended."""
    minutes = round(run.clock.seconds / 60, 2)
    last = run.validation
    if run.reached:
        test = run.tests[-1]
        found = {key: test[key] for key in ("accuracy", "ci95", "tasks")}
        found |= {"measured on": "test", "steps": test["step"]}
        result = f"reached: {100 * test['accuracy']:.2f} % after {test['step']:,} steps in {minutes:.1f} minutes"
    elif last is None:
        found, result = {"steps": 0}, f"not reached: no validation in {minutes:.1f} minutes"
    else:
        found = {"accuracy": round(last["val accuracy"], 6), "ci95": round(last["val ci95"], 6)}
        found |= {"tasks": run.race.validation.tasks, "measured on": "validation", "steps": last["step"]}
        percent = f"{100 * last['val accuracy']:.2f} %"
        result = f"not reached: {percent} after {last['step']:,} steps in {minutes:.1f} minutes"
    lives = run.clock.lives
    return {
        "result": result,
        "reached": run.reached,
        "minutes": minutes,
        **found,
        "what": what,
        **by,
        "load before": max(life["load"] for life in lives),
        "lives": len(lives),
        "tests": run.tests,
    }


def keep(path: Path, race: Race, found: dict[str, Any]) -> None:
    """Add an entry to the result file."""
    old = json.loads(path.read_text(encoding="utf-8"))["entries"] if path.is_file() else []
    facts = {"command": "python benchmarks/speedrun.py", "bar": race.bar, "bar is": race.of}
    facts["protocol"] = race.protocol.name
    write_text(path, json.dumps({**facts, "entries": [*old, found]}, indent=1) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, run, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds Omniglot; default FASTADAPT_DATA")
    parser.add_argument("--run", type=Path, default=Path("runs/speedrun"), help="folder of the run")
    parser.add_argument("--minutes", type=float, help="train no longer than so many; default is no limit")
    parser.add_argument("--what", default="", help="what changed since the last entry, in a few words")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="the result file")
    parser.add_argument("--smoke", type=float, nargs="?", const=0.0, metavar="BAR", help="tiny, on made images")
    options = parser.parse_args(words)
    folder, out = options.run, options.out or (OUT if options.smoke is None else options.run / "speedrun.json")
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes must be above 0, got {options.minutes:g}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "clock.json").is_file():
        parser.error(f"{folder} is no such run and not empty: name an empty folder with --run")
    # what is decoded, checked and compiled once is a part of the run
    os.environ |= {
        "FASTADAPT_CACHE": str((folder / "cache").resolve()),
        "TORCHINDUCTOR_CACHE_DIR": str((folder / "cache" / "inductor").resolve()),
    }
    device = choose_device(options.device)
    by = {**made(device), "hardware": hardware(device)}  # now: the checkout may go on while it runs
    with Clock(folder / "clock.json") as clock:
        if options.minutes is not None and clock.seconds > 60 * options.minutes:
            parser.error(f"{folder} has taken {clock.seconds / 60:.1f} of {options.minutes:g} minutes: ask for more")
        race = published(options.data) if options.smoke is None else smoke(options.smoke)
        run = Run(folder, race, clock)
        if run.reached:
            parser.error(f"{folder} has reached {100 * race.bar:g} % already: name an empty folder with --run")
        race.learner.to(device)
        stopped = run_on(run, options.minutes)
        if stopped in EXIT_CODES:
            print(
                f"{folder} stopped after {clock.seconds / 60:.1f} minutes in all; the same command goes on from there"
            )
            return EXIT_CODES[stopped]
        found = entry(run, options.what, by)
    keep(out, race, found)
    print(f"{found['result']}; an entry is in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
