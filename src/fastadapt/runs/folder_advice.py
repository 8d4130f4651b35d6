"""What can be trained on a folder, and the command that does it: as asked, or with as little changed as will do."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

from fastadapt.data.files import as_word
from fastadapt.data.images.folder_verdict import MOST_QUERIES, Verdict
from fastadapt.runs.folder_run import Looked, Wishes, look_at

_CHANGES = {
    "split": "all classes are divided anew",
    "queries": "tasks have {queries} queries a class",
    "bad": "what can't be used is left out",
    "ways": "tasks have {ways} classes",
    "val": "no class validates",
    "min_images": "classes with fewer than {min_images} images are left out",
    "shots": "tasks have 1 shot",
}
"""What may be changed, the least harmful first, and how it is told."""


@dataclass(frozen=True, eq=False)
class Advice:
    """Hold what training takes.

    Args:
        wishes: the settings.
        verdict: on them.
        changed: how they differ from what was asked, in words.
    """

    wishes: Wishes
    verdict: Verdict
    changed: tuple[str, ...]

    @property
    def trainable(self) -> dict[str, int]:
        """The most ways, and the most shots with one query and with fifteen."""
        most = self.verdict.most_shots
        return {
            "ways": self.verdict.most_ways,
            "shots with 1 query": most,
            f"shots with {MOST_QUERIES} queries": max(0, most + 1 - MOST_QUERIES),
        }

    @property
    def command(self) -> str:
        """The command that trains, as it may be typed."""
        words = f"fastadapt train --data {as_word(self.wishes.data)} --ways {self.verdict.ways}"
        words += f" --shots {self.wishes.shots}"
        for field in sorted(fields(Wishes), key=lambda field: field.name == "bad"):
            value: Any = getattr(self.wishes, field.name)
            if field.name not in ("data", "ways", "shots") and value != field.default:
                text = f"{value:g}" if isinstance(value, float) else str(value)
                words += f" --{field.name.replace('_', '-')} {as_word(text)}"
        return words


def advise(wishes: Wishes, looked: Looked) -> Advice | None:
    """Return the settings nearest to what is asked that training takes, or None if there are none.

    Args:
        wishes: what is asked.
        looked: what was seen of the folder with these settings.
    """
    if looked.choice.problem and wishes.split != "random":
        asked = replace(wishes, split="random")
        looked = look_at(asked)
    else:
        asked = wishes
    for trial in _trials(asked):
        verdict, problems = looked.judged(trial)
        if not problems:
            named = {**vars(trial), "ways": verdict.ways, "queries": verdict.queries}
            changed = [
                words.format(**named)
                for name, words in _CHANGES.items()
                if getattr(trial, name) != getattr(wishes, name)
            ]
            return Advice(trial, verdict, tuple(changed))
    return None


def _trials(wishes: Wishes) -> Iterator[Wishes]:
    """Yield settings, those with the fewest changes first."""
    need = max(wishes.min_images, wishes.shots + (wishes.queries or 1))
    others: dict[str, Any] = {"queries": None, "bad": "skip", "ways": None, "val": 0.0, "min_images": need, "shots": 1}
    changes = [(name, value) for name, value in others.items() if getattr(wishes, name) != value]
    for count in range(len(changes) + 1):
        for some in combinations(changes, count):
            yield replace(wishes, **dict(some))
