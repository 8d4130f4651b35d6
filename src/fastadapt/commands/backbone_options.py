"""What `embed` and `check` ask of a backbone, and how they look at a folder of pictures for it."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fastadapt.arguments import argument
from fastadapt.backbones.backbone import KINDS, Backbone, find_backbone
from fastadapt.backbones.embed import Pictures
from fastadapt.backbones.hugging_face import Taken
from fastadapt.backbones.sight import Values
from fastadapt.data.files import as_word, complain, shown
from fastadapt.data.images.folder_images import Bad
from fastadapt.data.images.split_choice import Choice, choose_split
from fastadapt.data.images.survey import LEAST, WARNINGS, Survey, summed_up, survey_folder
from fastadapt.data.images.tree import scan_tree, without_classes
from fastadapt.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Say which backbone, and what it sees."""

    backbone: str | None = None
    """A file net.onnx, a folder of Hugging Face, module.path:factory, or what nobody trained: pixels, conv4."""
    values: Values | None = argument(find_backbone, "values")
    size: int | None = argument(find_backbone, "size")
    output: str | None = argument(find_backbone, "output")
    take: Taken | None = argument(find_backbone, "taken")

    def find(self, default: str | None = None) -> Backbone:
        """Return the backbone.

        Raises:
            ConfigError: if none is named, or it can't be used.
        """
        words = self.backbone or default
        if words is None:
            raise ConfigError(f"name a backbone with --backbone: {KINDS}")
        return find_backbone(words, values=self.values, size=self.size, output=self.output, taken=self.take)


def look_at_pictures(folder: Path, *, split: str = "auto", bad: Bad = "fail") -> Pictures:
    """Return the pictures of a folder of classes, after every file was read.

    Raises:
        DataError: if the folder can't be read, or anything in it can't be used and `bad` is "fail".
    """
    tree = scan_tree(folder)
    if not tree.classes:
        raise without_classes(tree)
    choice = choose_split(tree, split)
    if choice.problem:
        raise DataError(choice.problem)
    survey = survey_folder(choice.tree, size=LEAST, channels=3)
    _judge(survey, bad)
    logger.info(
        "%s: %d pictures of %d classes; %s",
        shown(folder),
        sum(survey.counts.values()),
        len(survey.images),
        choice.words,
    )
    return pictures_of(survey, choice)


def pictures_of(survey: Survey, choice: Choice) -> Pictures:
    """Return the usable pictures of a survey, class by class."""
    each = [(path, name, facts) for name, inside in survey.images.items() for path, facts in inside.items()]
    return Pictures(
        [path for path, _, _ in each],
        [name for _, name, _ in each],
        [survey.tree.name(path) for path, _, _ in each],
        [facts.digest for _, _, facts in each],
        shown(survey.tree.root),
        dict(choice.parts),
    )


def _judge(survey: Survey, bad: Bad) -> None:
    problems, where = [finding.text for finding in survey.problems], shown(survey.tree.root)
    if problems and (bad == "fail" or not survey.images):
        mend = f"fastadapt check {as_word(survey.tree.root)} lists all"
        raise DataError(f"{complain(problems, where)}\nmend them ({mend}), or leave them out: --bad skip")
    if problems:
        logger.warning("%s: %d problems left out; the first: %s", where, len(problems), problems[0])
    for words in summed_up([finding for finding in survey.notes if finding.kind in WARNINGS]):
        logger.warning("note: %s", words)
