"""The methods of `fastadapt train --data TABLE --method`: their settings for rows, and what each can predict."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastadapt.data.files import shown
from fastadapt.data.tables.columns import Preparation
from fastadapt.errors import ConfigError
from fastadapt.methods.family_settings import IMAMLMethod, MAMLPlusPlusMethod, MetaSGDMethod, ProtoMAMLMethod
from fastadapt.methods.metric_settings import MatchingNetMethod, ProtoNetMethod, RelationNetMethod, SiameseNetMethod
from fastadapt.methods.prior_settings import GaussianPriorMethod
from fastadapt.methods.rule_settings import CAVIAMethod, MetaCurvatureMethod, MetaLSTMMethod
from fastadapt.methods.sequence_settings import MANNMethod, SNAILMethod
from fastadapt.methods.set_settings import MemoryModuleMethod
from fastadapt.methods.settings import MAMLMethod, ReptileMethod

Stepping = Literal["maml", "reptile", "anil", "boil", "metasgd", "mamlpp", "imaml"]
Learned = Literal["meta-lstm", "meta-curvature", "cavia"]
Closed = Literal["gaussian"]
Telling = Literal["protomaml", "protonet", "matching", "siamese", "relation", "memory", "snail", "mann"]
TableMethod = Literal[Stepping, Learned, Telling, Closed]

UNFIT = {
    "dsn": "adaptive subspaces need two samples of each class, which the support rows of a task need not have; choose "
    "protonet",
    "statistician": "the neural statistician generates images, and rows of a table are none; choose protonet or memory",
    "fomaml": "first order is a setting of MAML; choose reptile, which has no second derivatives either",
}
"""Methods that are not for tables, and why."""


@dataclass(frozen=True)
class Way:
    """Hold how a method learns from a table.

    Args:
        title: what people call it.
        make: from the inner rate, the inner steps and the outer steps to the settings of the method.
        rate: inner rate in training where none is given; None for a method without inner steps.
        steps: inner steps where none are given.
        labels: whether it tells classes apart, and predicts no numbers.
        amounts: whether it predicts numbers, and tells no classes apart.
        compares: whether it answers with the labels of the support rows alone.
        tunes: whether a rate for new tasks is chosen on validation tasks; one that was learned stays.
        context: numbers of a vector beside the inputs.
    """

    title: str
    make: Callable[[float, int, int], Any]
    rate: float | None = 0.05
    steps: int = 5
    labels: bool = False
    amounts: bool = False
    compares: bool = False
    tunes: bool = True
    context: int = 0


def _inner(rate: float, steps: int) -> dict[str, Any]:
    # networks of this size run at once; a choice by measuring would take longer than it saves
    return {"inner_lr": rate, "inner_rule": "sgd", "steps": steps, "test_steps": steps, "route": "vmap"}


def _reptile(rate: float, steps: int, outer: int) -> ReptileMethod:
    return ReptileMethod(**_inner(rate, steps), batch=10, test_batch=None, inner_state="reset")


def _plus(rate: float, steps: int, outer: int) -> MAMLPlusPlusMethod:
    # the first fifth of the training with the multi-step loss
    return MAMLPlusPlusMethod(**_inner(rate, steps), multi_step_epochs=2, epoch=max(1, outer // 10))


def _lstm(rate: float, steps: int, outer: int) -> MetaLSTMMethod:
    return MetaLSTMMethod(inner_lr=rate, steps=steps, test_steps=steps, route="vmap")


def _of(settings: Any) -> Callable[[float, int, int], Any]:
    return lambda rate, steps, outer: settings


def _with(kind: Any, **more: Any) -> Callable[[float, int, int], Any]:
    return lambda rate, steps, outer: kind(**_inner(rate, steps), **more)


def _telling(title: str, settings: Any) -> Way:
    return Way(title, _of(settings), rate=None, steps=0, labels=True, compares=True)


WAYS: dict[str, Way] = {
    "maml": Way("MAML", _with(MAMLMethod)),
    "reptile": Way("Reptile", _reptile),
    "anil": Way("ANIL", _with(MAMLMethod, adapt=("head",))),
    "boil": Way("BOIL", _with(MAMLMethod, adapt=("body",))),
    "metasgd": Way("Meta-SGD", _with(MetaSGDMethod, inner_lr_to=None), steps=1, tunes=False),
    "mamlpp": Way("MAML++", _plus, tunes=False),
    "imaml": Way("iMAML", _with(IMAMLMethod), steps=16),
    "meta-lstm": Way("meta-learner LSTM", _lstm, rate=1.0, tunes=False),
    "meta-curvature": Way("Meta-Curvature", _with(MetaCurvatureMethod)),
    "cavia": Way("CAVIA", _with(CAVIAMethod), rate=1.0, steps=2, context=5),
    "protomaml": Way("ProtoMAML", _with(ProtoMAMLMethod), labels=True, compares=True),
    "protonet": _telling("prototypical networks", ProtoNetMethod()),
    "matching": _telling("matching networks", MatchingNetMethod()),
    "siamese": _telling("siamese networks", SiameseNetMethod()),
    "relation": _telling("Relation Network", RelationNetMethod()),
    "memory": _telling("memory module", MemoryModuleMethod()),
    "snail": _telling("SNAIL", SNAILMethod()),
    "mann": _telling("memory-augmented network", MANNMethod()),
    "gaussian": Way("Gaussian prior", _of(GaussianPriorMethod()), rate=None, steps=0, amounts=True, tunes=False),
}
"""The methods by the name of the option."""


def refuse_unfit(argv: Sequence[str]) -> None:
    """Refuse a method that is not for tables, in a sentence that says why.

    Raises:
        ConfigError: for such.

    Example:
        >>> refuse_unfit(["--method", "protonet"])
    """
    words = [word for given in argv for word in given.split("=", 1)]
    for before, word in itertools.pairwise(words):
        if before == "--method" and word in UNFIT:
            raise ConfigError(f"--method {word} is not for tables: {UNFIT[word]}")


def check_target(method: str, preparation: Preparation) -> None:
    """Refuse a method that tells classes apart where the target is an amount.

    Raises:
        ConfigError: for such.
    """
    if WAYS[method].amounts and preparation.labels:
        raise ConfigError(
            f"--method {method} predicts amounts, and the values of {shown(preparation.target)} are labels; choose "
            "protonet, or say --regression if they are amounts"
        )
    if WAYS[method].labels and not preparation.labels:
        others = ", ".join(name for name, way in WAYS.items() if not way.labels)
        raise ConfigError(
            f"--method {method} tells classes apart, and the values of {shown(preparation.target)} are amounts; choose "
            f"one of {others}, or say --classification if they are labels"
        )
