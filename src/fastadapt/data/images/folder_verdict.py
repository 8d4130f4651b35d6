"""Whether the classes of a folder are enough for the tasks that are wanted: the one judgement of check and train."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastadapt.data.images.folder_split import divide, most_ways
from fastadapt.data.images.omniglot_splits import ClassSplit
from fastadapt.data.images.split_choice import Choice
from fastadapt.data.images.survey import few_images
from fastadapt.data.images.tree import Finding
from fastadapt.errors import DataError

USUAL_WAYS = 5
"""Classes of a task where nothing is said and there are enough."""
MOST_QUERIES = 15
"""Query images of each class in a test task, if there are so many."""


@dataclass(frozen=True)
class Wanted:
    """Hold the tasks that are wanted; None is to be found by looking.

    Args:
        ways: classes of a task; None takes 5, or as many as there are enough classes for.
        shots: images of each to adapt on.
        queries: images of each to be judged on; None takes 15, or what the smallest class has left.
        min_images: classes with fewer images are left out.
        val: share of the classes that validate.
        test: share of the classes that are tested on.
        seed: of the division of the classes.
    """

    ways: int | None = None
    shots: int = 1
    queries: int | None = None
    min_images: int = 0
    val: float = 0.16
    test: float = 0.2
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Verdict:
    """Hold what was judged.

    Args:
        ways: classes of a task.
        queries: images of each class that a test task is judged on.
        counts: the images of each class that is used.
        problems: what stands in the way.
        split: the classes of each part; None where they can't be divided.
        most_ways: the most ways that the classes are enough for; below 2 for none.
    """

    ways: int
    queries: int
    counts: dict[str, int] = field(repr=False)
    problems: list[Finding]
    split: ClassSplit | None = field(repr=False)
    most_ways: int

    @property
    def most_shots(self) -> int:
        """The most images of each class to adapt on if one is left to be judged on."""
        return min(self.counts.values(), default=0) - 1


def judge(choice: Choice, counts: Mapping[str, int], wanted: Wanted) -> Verdict:
    """Return whether a folder is enough for what is wanted.

    Args:
        choice: how its classes are divided.
        counts: the usable images of each class.
        wanted: the tasks.

    Raises:
        ConfigError: if a share of the classes is outside its range.

    Example:
        >>> from pathlib import Path
        >>> from fastadapt.data.images.split_choice import choose_split
        >>> from fastadapt.data.images.tree import Tree
        >>> counts = {name: 20 for name in "abcdefghi"}
        >>> choice = choose_split(Tree(Path(), {name: [] for name in counts}, []))
        >>> verdict = judge(choice, counts, Wanted())
        >>> verdict.ways, verdict.queries, verdict.most_shots, verdict.problems
        (3, 15, 19, [])
    """
    names = [name for name, count in counts.items() if count >= wanted.min_images]
    if choice.parts:
        names = [n for n in names if n in choice.parts and (wanted.val or choice.parts[n] != "val")]
    used = {name: counts[name] for name in names}
    problems = [Finding("split", ".", choice.problem)] if choice.problem else []

    def divided(ways: int) -> ClassSplit:
        return divide(names, choice.parts, ways=ways, val=wanted.val, test=wanted.test, seed=wanted.seed)

    most = most_ways(len(names), divided)
    ways = wanted.ways or max(2, min(USUAL_WAYS, most))
    split = None
    if not choice.problem:
        try:
            split = divided(ways)
        except DataError as error:
            problems.append(Finding("few classes", ".", str(error)))
    queries = wanted.queries or max(1, min(MOST_QUERIES, min(used.values(), default=0) - wanted.shots))
    return Verdict(ways, queries, used, [*problems, *few_images(used, wanted.shots, queries)], split, most)
