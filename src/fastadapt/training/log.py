"""What a person sees of a run while it goes on, and `metrics.jsonl`, which keeps it.

A terminal gets a live bar with the time left; anything else gets one plain line for each record.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastadapt.atomic import explain, write_text
from fastadapt.errors import MissingExtraError
from fastadapt.training.settings import Training

logger = logging.getLogger("fastadapt")


class RunLog:
    """Write records to `metrics.jsonl`, the screen and, if asked for, TensorBoard.

    Args:
        folder: where `metrics.jsonl` goes; None keeps nothing on disk.
        training: the settings of the run: its steps and its time limit.
        start: the step it starts from; records after it, of a life that was cut short, are dropped.
        seconds: how long earlier lives of the run took.
        quiet: show nothing.
        tensorboard: also write TensorBoard events below `folder`.

    Raises:
        MissingExtraError: if TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        training: Training,
        start: int = 0,
        seconds: float = 0.0,
        *,
        quiet: bool = False,
        tensorboard: bool = False,
    ) -> None:
        self.total = training.steps
        self.limit = math.inf if training.minutes is None else 60 * training.minutes - seconds
        self.path = None if folder is None else folder / "metrics.jsonl"
        self.records: list[dict[str, Any]] = []
        if self.path is not None and self.path.exists():
            self.records = [r for r in read_metrics(self.path) if r["step"] <= start]
            write_text(self.path, "".join(json.dumps(r) + "\n" for r in self.records))
        self.quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._events = _event_writer(folder) if tensorboard and folder is not None else None
        self._began, self._first = time.monotonic(), start

    def __enter__(self) -> "RunLog":
        if not self.quiet and sys.stderr.isatty():
            self._bar = _live_bar()
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.total, completed=self._first, facts="", left="?")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._events is not None:
            self._events.close()

    def advance(self, step: int) -> None:
        """Move the live bar to `step` steps done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, left=self._left(step))

    def write(self, record: dict[str, Any]) -> None:
        """Keep one record, `{"step": ..., ...}`, and show it."""
        self.records.append(record)
        if self.path is not None:
            self._append(self.path, record)
        if self._events is not None:
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "step":
                    self._events.add_scalar(name, value, record["step"])
        facts = "  ".join(
            f"{name} {_short(value)}" for name, value in record.items() if name not in ("step", "seconds")
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=record["step"], facts=facts)
        elif not self.quiet:
            print(
                f"step {record['step']}/{self.total}  {facts}  left {self._left(record['step'])}",
                file=sys.stderr,
                flush=True,
            )

    def _append(self, path: Path, record: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_sayable(record)) + "\n")
        except OSError as error:  # a log is not worth a run: the checkpoints decide whether it can go on
            logger.warning("%s; training goes on without this log", explain(error, path))
            self.path = None

    def say(self, message: str) -> None:
        """Show one sentence."""
        if self._bar is not None:
            self._bar.console.print(message, highlight=False)
        elif not self.quiet:
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show what the training waits for, while it lasts."""
        began = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, facts=f"{text} ...")
        else:
            self.say(f"{text} ...")
        try:
            yield
        finally:
            self.say(f"{text}: {time.monotonic() - began:.0f} s")

    def _left(self, step: int) -> str:
        done = step - self._first
        if done <= 0:
            return "?"
        elapsed = time.monotonic() - self._began
        seconds = min(elapsed / done * (self.total - step), max(self.limit - elapsed, 0.0))
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sayable(record: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def _live_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn("left {task.fields[left]}"),
        TextColumn("{task.fields[facts]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


def _event_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("TensorBoard is not installed: pip install 'fastadapt[tensorboard]'") from error
    return SummaryWriter(str(folder / "tensorboard"))
