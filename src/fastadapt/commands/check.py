"""`fastadapt check FOLDER`: all that is wrong with a folder of images, in one pass, and what it is enough for."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from fastadapt.commands import check_table
from fastadapt.data.files import shown
from fastadapt.data.images.folder_split import folder_split, most_ways
from fastadapt.data.images.images import Fit
from fastadapt.data.images.survey import Survey, few_images, survey_folder
from fastadapt.data.images.tree import Finding
from fastadapt.errors import DataError

_USUAL_WAYS = 5
_USUAL_QUERIES = 15


@dataclass(frozen=True)
class CheckSettings:
    """Read every image of a folder, say what is wrong with it, and what can be trained on it."""

    folder: tyro.conf.Positional[Path]
    """The folder: class folders at any depth."""
    ways: int = 2
    """Classes of a task that are wanted; each of training, validation and test needs so many."""
    shots: int = 1
    """Images of each class that are wanted to adapt on."""
    queries: int = 1
    """Images of each class that are wanted to be judged on."""
    size: int | None = None
    """Height and width to train at; default 84, or 28 for small images."""
    fit: Fit = "crop"
    """What becomes of an image that is not square."""
    min_images: int = 0
    """Leave out classes with fewer images than this."""
    json: bool = False
    """Print JSON."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line, look, and return 1 if training would refuse the folder."""
    if check_table.is_asked_for(argv):
        return check_table.main(argv)
    settings = tyro.cli(CheckSettings, args=list(argv), prog="fastadapt check")
    survey = survey_folder(settings.folder, size=settings.size, fit=settings.fit)
    counts = {name: count for name, count in survey.counts.items() if count >= settings.min_images}
    problems = [*survey.problems, *_too_few(settings, counts)]
    print(_as_json(survey, counts, problems) if settings.json else _as_text(settings, survey, counts, problems))
    return 1 if problems else 0


def _too_few(settings: CheckSettings, counts: dict[str, int]) -> list[Finding]:
    """Return what stands in the way of the tasks that are wanted."""
    found = few_images(counts, settings.shots, settings.queries)
    try:
        folder_split(counts, ways=settings.ways)
    except DataError as error:
        found.append(Finding("few classes", ".", str(error)))
    return found


def trainable(counts: dict[str, int]) -> dict[str, int] | None:
    """Return the most ways, and the most shots with one query and with fifteen; None if nothing can be trained.

    Args:
        counts: the images of each class.

    Example:
        >>> trainable({name: 20 for name in "abcdefghi"})
        {'ways': 3, 'shots with 1 query': 19, 'shots with 15 queries': 5}
    """
    ways, least = most_ways(len(counts)), min(counts.values(), default=0)
    if ways < 2 or least < 2:
        return None
    return {
        "ways": ways,
        "shots with 1 query": least - 1,
        f"shots with {_USUAL_QUERIES} queries": max(0, least - _USUAL_QUERIES),
    }


def _as_json(survey: Survey, counts: dict[str, int], problems: list[Finding]) -> str:
    facts: dict[str, Any] = {
        "folder": str(survey.tree.root),
        "ok": not problems,
        "classes": counts,
        "images": sum(counts.values()),
        "size": survey.recipe.size,
        "channels": survey.recipe.channels,
        "trainable": trainable(counts),
        "problems": [_without_verdict(finding) for finding in problems],
        "notes": [_without_verdict(finding) for finding in survey.notes],
    }
    return json.dumps(facts, indent=2)


def _without_verdict(finding: Finding) -> dict[str, str]:
    return {name: value for name, value in asdict(finding).items() if name != "refused"}


def _as_text(settings: CheckSettings, survey: Survey, counts: dict[str, int], problems: list[Finding]) -> str:
    where, size = shown(settings.folder), survey.recipe.size
    colour = "colour" if survey.recipe.channels == 3 else "grey"
    lines = [
        f"{where}: {sum(counts.values()):,} usable images of {len(counts):,} classes, "
        f"to be trained on at {size}x{size} pixels in {colour}",
        "",
        *(f"  {count:>6}  {shown(name)}" for name, count in counts.items()),
    ]
    if problems:
        lines += ["", f"problems, for which training refuses the folder ({len(problems)}):"]
        lines += [f"  {finding.text}" for finding in problems]
    kinds = Counter(finding.kind for finding in survey.notes)
    if kinds:
        lines += ["", "notes, which stop nothing:"]
    for kind, number in kinds.items():
        first = next(finding for finding in survey.notes if finding.kind == kind)
        lines.append(f"  {first.text}{f' ({kind}: {number} in all)' if number > 1 else ''}")
    return "\n".join([*lines, "", *_what_next(settings, counts, problems)])


def _what_next(settings: CheckSettings, counts: dict[str, int], problems: list[Finding]) -> list[str]:
    most = trainable(counts)
    if most is None:
        need = "a task of 2 classes takes 6 classes in all (2 each for training, validation and test)"
        return [f"nothing can be trained: {need}, with 2 images or more"]
    one, many = most["shots with 1 query"], most[f"shots with {_USUAL_QUERIES} queries"]
    shots = f"up to {one} shot{'s' * (one != 1)} with 1 query" + (f", {many} with {_USUAL_QUERIES}" if many else "")
    skip = " --bad skip" if any(finding.kind not in ("few images", "few classes") for finding in problems) else ""
    ways = min(most["ways"], max(settings.ways, _USUAL_WAYS))
    words = f"fastadapt train --data {shlex.quote(shown(settings.folder))} --ways {ways}"
    words += f" --shots {min(settings.shots, one)}{skip}"
    return [f"can be trained: up to {most['ways']} ways, {shots} for each class", f"  {words}"]
