"""Settings that are a constructor's arguments: their defaults and their words stand once, at the constructor."""

import dataclasses
import inspect
import re
from typing import get_args, get_type_hints

import pytest
import tyro

from fastadapt import MAML, Conv4
from fastadapt.arguments import argument, default_of
from fastadapt.data.settings import OmniglotData
from fastadapt.methods.foml import FOML
from fastadapt.methods.settings import ReptileMethod
from fastadapt.runs.config import RunConfig

HINTS = get_type_hints(RunConfig)
KINDS = [kind for part in ("data", "net", "method") for kind in get_args(HINTS[part])]


@pytest.mark.parametrize("kind", KINDS)
def test_every_borrowed_field_has_words(kind: type) -> None:
    for field in dataclasses.fields(kind):
        assert field.metadata.get("help", "own words"), f"{kind.__name__}.{field.name}"


def test_an_argument_that_a_class_takes_over_is_found_where_it_stands() -> None:
    assert "steps" not in inspect.signature(FOML).parameters
    assert default_of(FOML, "steps") == 5
    field = argument(FOML, "replacement")
    assert field.default is False and field.metadata["help"].startswith("Draw every minibatch afresh")


def test_words_over_several_lines_become_one() -> None:
    assert argument(Conv4, "down").metadata["help"].endswith('or "max_same" (they are pooled by themselves).')


def test_an_argument_without_a_default_is_a_field_that_must_be_given() -> None:
    assert argument(MAML, "model").default is dataclasses.MISSING
    assert argument(Conv4, "width", 8).default == 8


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="Conv4 has no argument 'depth'"):
        argument(Conv4, "depth")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (OmniglotData, "Query images for each class of a test task. (default: 1)"),
        (ReptileMethod, "Inner steps in training. (default: 5)"),
    ],
)
def test_another_default_keeps_the_words_of_the_class_that_is_extended(
    kind: type, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    page = capsys.readouterr().out
    assert told in " ".join(re.sub(r"[─│╭╮╰╯]", " ", page).split())
