"""`fastadapt check FOLDER`: all that is wrong with a folder of images, in one pass, and what it is enough for.

With --faces, see `check_faces.py`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro

from fastadapt.arguments import argument
from fastadapt.backbones.backbone import Backbone, find_backbone
from fastadapt.backbones.hugging_face import Taken
from fastadapt.backbones.sight import Values
from fastadapt.commands import check_faces, check_table
from fastadapt.commands.backbone_options import pictures_of
from fastadapt.compare.reach import Reached, advice_of, reached_by
from fastadapt.data.files import shown
from fastadapt.data.images.folder_images import Bad
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.images.folder_verdict import MOST_QUERIES, Verdict
from fastadapt.data.images.images import Fit
from fastadapt.data.images.survey import Survey, summed_up
from fastadapt.data.images.tree import Finding
from fastadapt.runs.folder_advice import Advice, advise
from fastadapt.runs.folder_run import Looked, Wishes, look_at

_LISTED, _CLASSES = 20, 200  # problems of one kind, and classes, that are listed as text


@dataclass(frozen=True)
class CheckSettings:
    """Read every image of a folder, say what is wrong with it, and what can be trained on it."""

    folder: tyro.conf.Positional[Path]
    """The folder: class folders at any depth."""
    ways: int | None = None
    """Classes of a task that are wanted; each of training, validation and test needs so many. Default 5, or what there
    are enough for."""
    shots: int = 1
    """Images of each class that are wanted to adapt on."""
    queries: int | None = None
    """Images of each class that are wanted to be judged on; default 15, or what the smallest class has left."""
    size: int | None = None
    """Height and width to train at; default 84, or 28 for small images."""
    channels: Literal["auto", "1", "3"] = "auto"
    """1 for grey, 3 for colour; auto: 1 if all images are grey."""
    fit: Fit = "crop"
    """What becomes of an image that is not square."""
    bad: Bad = "fail"
    """What can't be used: refused or left out."""
    min_images: int = 0
    """Leave out classes with fewer images than this."""
    split: str = "auto"
    """How classes are divided: auto, folders, random, or a file that lists classes."""
    val: float = FolderData.val_fraction
    """Share of the classes that validate; 0 for none."""
    test: float = FolderData.test_fraction
    """Share of the classes to test on."""
    split_seed: int = FolderData.split_seed
    """Seed of the division of the classes."""
    backbone: str | None = None
    """Measure class means on its features too: net.onnx, a folder of Hugging Face, module.path:factory, conv4."""
    values: Values | None = argument(find_backbone, "values")
    backbone_size: int | None = argument(find_backbone, "size")
    output: str | None = argument(find_backbone, "output")
    take: Taken | None = argument(find_backbone, "taken")
    measure: bool = True
    """Measure what class means reach: of pixels, and of the backbone. It takes a minute at most."""
    json: bool = False
    """Print JSON."""

    def found(self) -> Backbone | None:
        """Return the backbone that is named."""
        if self.backbone is None:
            return None
        size, taken = self.backbone_size, self.take
        return find_backbone(self.backbone, values=self.values, size=size, output=self.output, taken=taken)

    @property
    def wishes(self) -> Wishes:
        """The same for training."""
        wanted = {field.name for field in fields(Wishes)} - {"channels", "data"}
        named = {name: value for name, value in vars(self).items() if name in wanted}
        channels: dict[str, Literal[1, 3] | None] = {"auto": None, "1": 1, "3": 3}
        return Wishes(self.folder, channels=channels[self.channels], **named)


def main(argv: Sequence[str]) -> int:
    """Parse the command line, look, and return 1 if training would refuse the folder."""
    if check_faces.is_asked_for(argv):
        return check_faces.main(argv)
    if check_table.is_asked_for(argv):
        return check_table.main(argv)
    settings = tyro.cli(CheckSettings, args=list(argv), prog="fastadapt check")
    backbone = settings.found()  # a mistake is told before the images are read
    looked = look_at(settings.wishes)
    verdict, problems = looked.judged(settings.wishes)
    advice = advise(settings.wishes, looked)
    reached = _reached(looked, advice, backbone) if settings.measure and advice is not None else []
    print((_as_json if settings.json else _as_text)(looked, verdict, problems, advice, reached))
    return 1 if problems else 0


def _reached(looked: Looked, advice: Advice, backbone: Backbone | None) -> list[Reached]:
    assert looked.survey is not None
    pictures = pictures_of(looked.survey, looked.choice)
    ways, shots = advice.verdict.ways, advice.wishes.shots
    return reached_by(pictures, backbone, ways=ways, shots=shots) if ways else []


def _notes(looked: Looked, survey: Survey, problems: list[Finding]) -> list[Finding]:
    """Return what stops nothing: notes, what is said of the split, and what is left out."""
    split = [Finding("split", ".", note, False) for note in looked.choice.notes]
    return [*split, *survey.notes, *(finding for finding in survey.problems if finding not in problems)]


def _as_json(
    looked: Looked, verdict: Verdict, problems: list[Finding], advice: Advice | None, reached: list[Reached]
) -> str:
    survey, split = looked.survey, verdict.split
    assert survey is not None
    facts: dict[str, Any] = {
        "folder": str(survey.tree.root),
        "ok": not problems,
        "classes": verdict.counts,
        "images": sum(verdict.counts.values()),
        "size": survey.recipe.size,
        "channels": survey.recipe.channels,
        "split": {"by": looked.choice.by or "random", "words": looked.choice.words}
        | ({"train": split.train, "val": split.val, "test": split.test} if split else {}),
        "trainable": advice.trainable if advice else None,
        "command": advice.command if advice else None,
        "frozen features": [asdict(each) for each in reached],
        "meta-training": _pays(reached, verdict) if reached else None,
        "problems": [_without_verdict(finding) for finding in problems],
        "notes": [_without_verdict(finding) for finding in _notes(looked, survey, problems)],
    }
    return json.dumps(facts, indent=2)


def _without_verdict(finding: Finding) -> dict[str, str]:
    return {name: value for name, value in asdict(finding).items() if name != "refused"}


def _as_text(
    looked: Looked, verdict: Verdict, problems: list[Finding], advice: Advice | None, reached: list[Reached]
) -> str:
    survey, counts = looked.survey, verdict.counts
    assert survey is not None
    colour, size = "colour" if survey.recipe.channels == 3 else "grey", survey.recipe.size
    lines = [
        f"{shown(survey.tree.root)}: {sum(counts.values()):,} usable images of {len(counts):,} classes, "
        f"to be trained on at {size}x{size} pixels in {colour}",
        "",
        *_classes(counts),
        "",
        f"split: {looked.choice.words}",
    ]
    if problems:
        lines += ["", f"problems, for which training refuses the folder ({len(problems)}):", *_listed(problems)]
    notes = _notes(looked, survey, problems)
    if notes:
        lines += ["", "notes, which stop nothing:", *(f"  {line}" for line in summed_up(notes))]
    if reached:
        told = [f"  {each}" for each in reached]
        lines += ["", "nothing trained, the nearest class mean is right in", *told, *_pays(reached, verdict)]
    return "\n".join([*lines, "", *_what_next(advice)])


def _pays(reached: list[Reached], verdict: Verdict) -> list[str]:
    trained = len(verdict.split.train) if verdict.split else len(verdict.counts)
    return advice_of(reached, trained)


def _classes(counts: dict[str, int]) -> list[str]:
    lines = [f"  {count:>6}  {shown(name)}" for name, count in list(counts.items())[:_CLASSES]]
    if len(counts) > _CLASSES:
        rest = list(counts.values())[_CLASSES:]
        lines.append(f"  and {len(rest):,} more of {min(rest):,} to {max(rest):,} images each (--json lists all)")
    return lines


def _listed(problems: list[Finding]) -> list[str]:
    """Return the sentences of all problems; thousands of one kind are counted."""
    lines: list[str] = []
    seen: Counter[str] = Counter()
    for finding in problems:
        seen[finding.kind] += 1
        if seen[finding.kind] <= _LISTED:
            lines.append(f"  {finding.text}")
    more = {kind: number - _LISTED for kind, number in seen.items() if number > _LISTED}
    return [
        *lines,
        *(f"  and {number:,} more of this kind: {kind} (--json lists all)" for kind, number in more.items()),
    ]


def _what_next(advice: Advice | None) -> list[str]:
    if advice is None:
        need = "a task of 2 classes takes 6 classes in all (2 each for training, validation and test)"
        return [f"nothing can be trained: {need}, or 4 with --val 0, with 2 images or more"]
    ways, one, many = advice.trainable.values()
    shots = f"up to {one} shot{'s' * (one != 1)} with 1 query" + (f", {many} with {MOST_QUERIES}" if many else "")
    changed = f" if {' and '.join(advice.changed)}" if advice.changed else ""
    return [f"can be trained{changed}: up to {ways} ways, {shots} for each class", f"  {advice.command}"]
