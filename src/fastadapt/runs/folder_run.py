"""From `fastadapt train --data FOLDER ...` to the configuration of a run, by a look at the images.

What the size, the colours and the number of images decide is not known before they were read, so the words of the
command line that bear on it (`Wishes`) are taken first, and the other options are read with what was found as defaults.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from fastadapt.data.files import complain, shown
from fastadapt.data.images.folder_images import Bad, FolderImages, load_folder
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.images.folder_verdict import MOST_QUERIES, USUAL_WAYS, Verdict, Wanted, judge
from fastadapt.data.images.images import Fit, ImageRecipe
from fastadapt.data.images.split_choice import Choice, choose_split
from fastadapt.data.images.survey import LARGE, LEAST, Survey, survey_folder
from fastadapt.data.images.tree import Finding, scan_tree, without_classes
from fastadapt.errors import ConfigError, DataError
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_folder import LARGEST_SMALL, REPTILE_SHOTS, TRAIN_QUERIES, FolderMethod, folder_preset
from fastadapt.runs.run_files import read_config
from fastadapt.training.saved_steps import saved_steps

logger = logging.getLogger(__name__)

_SPLIT = ("ways", "val_fraction", "test_fraction", "split_seed", "min_images", "split_by")  # who is in which part
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Wishes:
    """Hold what the command line says about the folder; None is to be found by looking."""

    data: Path
    method: FolderMethod = "maml"
    ways: int | None = None
    shots: int = FolderData.shots
    queries: int | None = None
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fit: Fit = FolderData.fit
    bad: Bad = FolderData.bad
    min_images: int = FolderData.min_images
    val: float = FolderData.val_fraction
    test: float = FolderData.test_fraction
    split: str = "auto"
    split_seed: int = FolderData.split_seed

    def __post_init__(self) -> None:
        leasts = {"ways": 2, "shots": 1, "queries": 1, "size": LEAST, "min_images": 0, "split_seed": 0}
        for name, least in leasts.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")

    @property
    def name(self) -> str:
        """A name for the run."""
        # a folder may be named "..", or be the root, or have a name that no terminal shows
        own = "".join(filter(str.isprintable, self.data.absolute().name.strip(".")))[:_LONGEST_NAME]
        return f"{self.method}-{own or 'images'}-{self.ways or USUAL_WAYS}w{self.shots}s"

    @property
    def wanted(self) -> Wanted:
        """What is asked of the classes."""
        return Wanted(self.ways, self.shots, self.queries, self.min_images, self.val, self.test, self.split_seed)


def parse_wishes(argv: Sequence[str]) -> tuple[Wishes, list[str]]:
    """Return what is said about the folder, and the other words.

    Raises:
        ConfigError: if no folder is named, or a number is outside its range.

    Example:
        >>> wishes, rest = parse_wishes(["--data", "photos", "--ways", "3", "--training.steps", "9"])
        >>> wishes.ways, wishes.name, rest
        (3, 'maml-photos-3w1s', ['--training.steps', '9'])
    """
    parser = _parser()
    found, rest = parser.parse_known_args(list(argv))
    if {"-h", "--help"} & set(rest):
        print(parser.format_help())
    elif found.data is None:
        raise ConfigError("name a preset (fastadapt list shows them), or your own images with --data FOLDER")
    values = {**vars(found), "data": found.data or Path("FOLDER")}
    values["channels"] = {"auto": None, "1": 1, "3": 3}[found.channels]
    return Wishes(**values), rest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastadapt train",
        usage="fastadapt train --data FOLDER [--ways N] [--shots K] [options]",
        description="Meta-train on your own images, one folder for each class. Classes are divided into training, "
        "validation and test.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.set_defaults(**{field.name: field.default for field in fields(Wishes) if field.name != "data"})
    say = parser.add_argument_group("your images").add_argument

    def both(name: str) -> tuple[str, ...]:  # as the options of a preset are spelt
        return f"--{name}", f"--data.{name}", *([f"--data.{name.replace('-', '_')}"] if "-" in name else [])

    say("--data", type=Path, metavar="FOLDER", help="class folders at any depth")
    say("--method", choices=get_args(FolderMethod), default="maml", help="default: %(default)s")
    say(
        *both("ways"),
        type=int,
        metavar="N",
        help=f"classes of a task (default: {USUAL_WAYS}, or what there are enough for)",
    )
    say(*both("shots"), type=int, metavar="K", help="images of each to adapt on (default: %(default)s)")
    say(
        *both("queries"),
        type=int,
        metavar="Q",
        help=f"images of each to be judged on (default: {MOST_QUERIES}, or what the smallest class has left)",
    )
    say(*both("size"), type=int, help="height and width to train at (default: 84, or 28 for small images)")
    say(*both("channels"), choices=("auto", "1", "3"), default="auto", help="auto: 1 if all images are grey, else 3")
    say(*both("fit"), choices=get_args(Fit), help="images that are not square (default: %(default)s)")
    say(*both("bad"), choices=get_args(Bad), help="what can't be used: refused or left out")
    say(*both("min-images"), type=int, metavar="M", help="leave out classes with fewer images")
    say("--split", metavar="HOW", help="auto, folders, random, or a file that lists classes (default: %(default)s)")
    say("--val", *both("val-fraction")[1:], type=float, help="share of the classes that validate")
    say("--test", *both("test-fraction")[1:], type=float, help="share of the classes to test on")
    say(*both("split-seed"), type=int, help="seed of the division of the classes (default: %(default)s)")
    return parser


def first_guess(wishes: Wishes) -> RunConfig:
    """Return a configuration without a look at the images, to find mistakes in the other words before it."""
    size = wishes.size or LARGE
    data = _data(wishes, size, wishes.channels or 3, wishes.queries or MOST_QUERIES, REPTILE_SHOTS)
    guess = folder_preset(wishes.method, data)
    # the number of steps that is reported follows from the size, and a guess must not refuse what is right
    return replace(guess, protocol=replace(guess.protocol, report=None))


@dataclass(frozen=True, eq=False)
class Looked:
    """Hold what a look at a folder found, before an image is kept.

    Args:
        choice: how its classes are divided.
        survey: what can be used of it; None where that was not asked.
    """

    choice: Choice
    survey: Survey | None = None

    def judged(self, wishes: Wishes) -> tuple[Verdict, list[Finding]]:
        """Return the verdict and everything for which the folder is refused."""
        assert self.survey is not None
        verdict = judge(self.choice, self.survey.counts, wishes.wanted)
        bad = [] if wishes.bad == "skip" else self.survey.problems
        return verdict, [*bad, *verdict.problems]


def look_at(wishes: Wishes, *, every_image: bool = True) -> Looked:
    """Return how the classes of a folder are divided, and what can be used of it.

    Args:
        wishes: what the user said.
        every_image: false looks at the names of its folders alone.

    Raises:
        DataError: if the folder can't be read, or has no class.
        ConfigError: if a setting can't be used.
    """
    tree = scan_tree(wishes.data)
    if not tree.classes:
        raise without_classes(tree)
    choice = choose_split(tree, wishes.split)
    if not every_image:
        return Looked(choice)
    return Looked(choice, survey_folder(choice.tree, size=wishes.size, channels=wishes.channels, fit=wishes.fit))


def settled(wishes: Wishes, run: Path | None) -> tuple[Wishes, Looked]:
    """Return the wishes with a number of ways, and what was seen to find one.

    Args:
        wishes: what the user said.
        run: the folder of the run, if the user named it.
    """
    before = recorded(run) if run else None
    if wishes.ways is None and before is not None:
        wishes = replace(wishes, ways=before.ways)
    looked = look_at(wishes, every_image=wishes.ways is None)
    return (wishes if wishes.ways else replace(wishes, ways=looked.judged(wishes)[0].ways)), looked


def resolve(wishes: Wishes, run: Path, looked: Looked | None = None) -> tuple[RunConfig, FolderImages]:
    """Read the images and return the configuration for them; a run that is gone on with keeps its own split.

    Args:
        wishes: what the user said.
        run: the folder of the run, which may not exist yet.
        looked: what was seen of the folder, if it was looked at.

    Raises:
        DataError: if the folder can't be used as asked; the sentences say how it can.
    """
    if looked is None:
        wishes, looked = settled(wishes, run)
    choice, survey = looked.choice, looked.survey
    if choice.problem:
        raise DataError(choice.problem)
    before = recorded(run)
    size, channels = wishes.size, wishes.channels
    if before is not None:
        size, channels = size or before.size, channels or before.channels
    if size is None or channels is None:
        survey = survey or survey_folder(choice.tree, size=size, channels=channels, fit=wishes.fit)
        size, channels = survey.recipe.size, survey.recipe.channels
    elif survey and (survey.recipe.size, survey.recipe.channels) != (size, channels):
        survey = None
    recipe = ImageRecipe(size, channels, fit=wishes.fit)
    images = load_folder(choice.tree, recipe, bad=wishes.bad, survey=survey)
    data = replace(_data(wishes, size, channels, 1, 1), split_by=choice.by)
    verdict = judge(choice, images.counts, wishes.wanted)
    counts, queries = verdict.counts, verdict.queries
    if before is not None and _same_split(before, data):
        classes = {f"{part}_classes": names for part, names in before.split.items()}
        data = replace(data, **classes)
        data.mention_new(images, wishes.data)
        counts = {name: images.counts.get(name, 0) for names in before.split.values() for name in names}
        queries = wishes.queries or max(1, min(MOST_QUERIES, min(counts.values()) - wishes.shots))
    elif verdict.problems:
        listed = complain([finding.text for finding in verdict.problems], shown(wishes.data))
        few = any(finding.kind == "few images" for finding in verdict.problems)
        hint = "\nor lower --shots or --queries, or leave out such classes with --min-images" if few else ""
        raise DataError(f"{listed}{hint}")
    else:
        data = data.divided(images, choice.parts)
    sized = _data(wishes, size, channels, queries, min(counts.values()))
    data = replace(sized, split_by=choice.by, **{f"{part}_classes": names for part, names in data.split.items()})
    _tell(data, counts, choice, images)
    return folder_preset(wishes.method, data), images


def _tell(data: FolderData, counts: dict[str, int], choice: Choice, images: FolderImages) -> None:
    """Say what is trained on."""
    logger.info(
        "%s: %d images of %d classes (%s), at %dx%d pixels in %s; %d-way %d-shot tasks, %d queries a class",
        shown(data.folder),
        sum(counts.values()),
        len(counts),
        ", ".join(f"{len(names)} {part}" for part, names in data.split.items()),
        data.size,
        data.size,
        "colour" if data.channels == 3 else "grey",
        data.ways,
        data.shots,
        data.queries,
    )
    logger.info("split: %s", choice.words)
    for words in (*choice.notes, *images.warnings):
        logger.warning("note: %s", words)


def seal(config: RunConfig, images: FolderImages, run: Path) -> RunConfig:
    """Return `config` with the digest of the images it uses, after these were found to be enough and unchanged.

    Raises:
        ConfigError: if the run in `run` began with other images of the same classes.
        DataError: if a class is missing or has too few images.
    """
    data, before = config.data, recorded(run)
    assert isinstance(data, FolderData)
    sealed = data.sealed(images)
    if before is not None and before.split == sealed.split and before.digest != sealed.digest:
        raise ConfigError(
            f"the images in {shown(data.folder)} are not those that {shown(run)} began with "
            f"(digest {before.digest}, now {sealed.digest}); put the files back, or choose another --run"
        )
    return replace(config, data=sealed)


def recorded(run: Path) -> FolderData | None:
    """Return the data of a run that has begun, if it is a run on a folder."""
    if not (run / "config.json").is_file() or not saved_steps(run / "checkpoints"):
        return None
    data = read_config(run).data
    return data if isinstance(data, FolderData) else None


def _same_split(before: FolderData, data: FolderData) -> bool:
    return all(getattr(before, name) == getattr(data, name) for name in _SPLIT)


def _data(wishes: Wishes, size: int, channels: Literal[1, 3], queries: int, least: int) -> FolderData:
    """Return the data setting; `least` is the number of images of the smallest class."""
    reptile, small = wishes.method == "reptile", size <= LARGEST_SMALL
    return FolderData(
        ways=wishes.ways or USUAL_WAYS,
        train_shots=max(wishes.shots, min(REPTILE_SHOTS, least)) if reptile else wishes.shots,
        train_queries=0 if reptile else (min(queries, TRAIN_QUERIES) if small else queries),
        shots=wishes.shots,
        queries=queries,
        size=size,
        channels=channels,
        fit=wishes.fit,
        bad=wishes.bad,
        min_images=wishes.min_images,
        val_fraction=wishes.val,
        test_fraction=wishes.test,
        split_seed=wishes.split_seed,
        folder=str(wishes.data),
    )
