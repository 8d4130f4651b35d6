"""What class means on frozen features reach on one's own pictures, and whether meta-training is likely to pay."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from fastadapt.backbones.backbone import Backbone, find_backbone
from fastadapt.backbones.embed import Pictures
from fastadapt.data.embeddings.vectors import ClassVectors
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.methods.centroid import NearestCentroid
from fastadapt.methods.features import features_of
from fastadapt.nets.features import Features

CLASSES, SECONDS, TASKS = 60, 40.0, 200
"""Classes that are looked at, at most; seconds after which no further class is begun; tasks."""
ENOUGH, SHARE, FEWEST = 0.9, 0.2, 64
"""The accuracy from which on little is left to gain, the share of pixels from which on pictures count as simple, and
how many classes the evidence has at least."""
_MOST_QUERIES = 15


@dataclass(frozen=True)
class Reached:
    """Hold what class means reached.

    Args:
        backbone: in words.
        baseline: whether nobody has trained it.
        accuracy: mean over tasks.
        ci95: half-width of its 95 % interval.
        chance: 1 / ways.
        ways: classes of a task.
        shots: pictures of each class to adapt on.
        queries: pictures of each class to be judged on.
        tasks: how many.
        classes: from which the tasks were drawn.
    """

    backbone: str
    baseline: bool
    accuracy: float
    ci95: float
    chance: float
    ways: int
    shots: int
    queries: int
    tasks: int
    classes: int

    def __str__(self) -> str:
        """Return one line a person can read."""
        return (
            f"{100 * self.accuracy:.1f} ± {100 * self.ci95:.1f} % (95 % CI of {self.tasks} {self.ways}-way {self.shots}"
            f"-shot tasks of {self.classes} classes; chance {100 * self.chance:.1f} %), by {self.backbone}"
        )


def some_of(pictures: Pictures, each: int, classes: int = CLASSES) -> Pictures:
    """Return the first `each` pictures of some classes, which are spread over all that have so many.

    Args:
        pictures: all.
        each: pictures of a class.
        classes: how many classes at most.
    """
    found: dict[str, list[int]] = {}
    for number, name in enumerate(pictures.classes):
        found.setdefault(name, []).append(number)
    names = sorted(name for name, numbers in found.items() if len(numbers) >= each)
    places = np.linspace(0, max(len(names) - 1, 0), min(classes, len(names))).round().astype(int)
    kept = [number for place in places for number in found[names[place]][:each]]
    return pictures.only(kept)


@torch.no_grad()
def reach(
    pictures: Pictures, backbone: Backbone, *, ways: int, shots: int, queries: int, seconds: float = SECONDS
) -> Reached:
    """Return what the nearest class mean, of features of length 1, reaches on tasks of some of the pictures.

    Args:
        pictures: as many of each class, class by class.
        backbone: whose features.
        ways: classes of a task.
        shots: pictures of each class to adapt on.
        queries: pictures of each class to be judged on.
        seconds: after which no further class is begun, if there are enough for a task.
    """
    each, began, rows = shots + queries, time.monotonic(), []
    for first in range(0, len(pictures.paths), each):
        if time.monotonic() - began > seconds and len(rows) >= ways:
            break
        pixels = np.stack([backbone.sight.read(path) for path in pictures.paths[first : first + each]])
        rows.append(features_of(backbone.net, backbone.sight.values(torch.from_numpy(pixels))).float())
    names = tuple(pictures.classes[: len(rows) * each : each])
    labels = np.repeat(np.arange(len(rows)), each)
    source = ClassVectors(torch.cat(rows), labels, names, ways=ways, shots=shots, queries=queries)
    head = NearestCentroid(Features(rows[0].shape[1]), unit=True)
    result = evaluate(head, source, Protocol("check-v1", tasks=TASKS))
    return Reached(
        backbone.name, backbone.baseline, result.result, result.half, 1 / ways, ways, shots, queries, TASKS, len(names)
    )


def reached_by(pictures: Pictures, backbone: Backbone | None, *, ways: int, shots: int) -> list[Reached]:
    """Return what pixels reach, and after it what a backbone does, on the same tasks.

    Args:
        pictures: of the folder.
        backbone: to be tried; None looks at pixels alone.
        ways: classes of a task.
        shots: pictures of each class to adapt on.
    """
    counts = np.unique(np.array(pictures.classes), return_counts=True)[1]
    enough = np.sort(counts)[::-1][min(ways, len(counts)) - 1]  # what as many classes have as a task needs
    queries = int(
        max(1, min(_MOST_QUERIES, min(int(counts.min()) if counts.min() > shots else enough, enough) - shots))
    )
    some = some_of(pictures, shots + queries)
    wanted = {"ways": ways, "shots": shots, "queries": queries}
    found = [] if backbone is None else [reach(some, backbone, **wanted)]
    until = len(some.paths) if not found else found[0].classes * (shots + queries)  # the same classes for both
    floor = reach(some.only(range(until)), find_backbone("pixels"), **wanted)
    return [floor, *found]


def advice_of(reached: list[Reached], training_classes: int) -> list[str]:
    """Return whether meta-training is likely to pay, by which rule and with which evidence, line by line.

    Args:
        reached: by pixels, and by a backbone that others have trained.
        training_classes: from which one would meta-learn.
    """
    floor, last = reached[0], reached[-1]
    if last.baseline:
        return [
            "this is the floor, as nobody has trained what it is measured with; --backbone net.onnx, or a folder of",
            "Hugging Face, tells what a network reaches that others have trained, and whether meta-training may pay",
        ]
    above, pixels = last.accuracy - last.chance, floor.accuracy - floor.chance
    share = pixels / above if above > last.ci95 else 1.0
    if last.accuracy - last.ci95 >= ENOUGH:
        told = f"unlikely to pay: class means on these features are right in {100 * ENOUGH:.0f} % or more already"
    elif share >= SHARE:
        told = (
            f"likely to pay: pixels alone have {100 * share:.0f} % of what these features have above chance, so that "
            "the pictures are simple, or foreign to the backbone"
        )
    else:
        told = (
            f"unlikely to pay: pixels alone have {100 * max(share, 0):.0f} % of what these features have above chance, "
            "so that a small network would have to learn what the backbone knows"
        )
    few = f"; both data sets of the evidence had 64 classes or more to meta-learn from, and here are {training_classes}"
    return [
        f"meta-training a small network is {told}{few * (training_classes < FEWEST)}",
        f"the rule: below {100 * ENOUGH:.0f} %, it pays where that share is {100 * SHARE:.0f} % or more. Its "
        "evidence is "
        "two data sets, drawings where it paid and photographs where it did not: docs/frozen_features.md",
    ]
