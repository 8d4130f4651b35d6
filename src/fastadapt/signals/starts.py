"""The two starts of a fit: the one that was learned, which comes with fastadapt, and a random one."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fastadapt.errors import CheckpointError
from fastadapt.nets.siren import Siren
from fastadapt.rules.rules import SGD, Adam, Rule
from fastadapt.runs.shipped import SHIPPED

Kind = Literal["photo", "sound"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDER = SHIPPED / "starts"
"""Weights and record of each learned start; `benchmarks/starts.py` writes them."""


@dataclass(frozen=True, eq=False)
class Start:
    """Hold where a fit begins, and what steps.

    Args:
        net: a network position -> value.
        rule: the rule that serves this start best on validation signals.
        batch: points of a step; None takes all.
    """

    net: Siren
    rule: Rule
    batch: int | None


@dataclass(frozen=True, eq=False)
class Pair:
    """Hold both starts of one kind of signal.

    Args:
        kind: of signal.
        learned: begins at the learned weights.
        random: begins at random weights of the frequency that was tuned for such.
        record: how they came about, and what was measured of them.
    """

    kind: Kind
    learned: Start
    random: Start
    record: dict[str, Any]


@cache
def load_pair(kind: Kind, seed: int = 0) -> Pair:
    """Return the two starts of a kind of signal.

    Args:
        kind: "photo" or "sound".
        seed: of the random start.

    Raises:
        CheckpointError: if the files that come with fastadapt can't be read.

    Example:
        >>> pair = load_pair("photo")
        >>> pair.learned.net(torch.zeros(1, 2)).shape
        torch.Size([1, 3])
    """
    weights, about = FOLDER / f"{kind}.safetensors", FOLDER / f"{kind}.json"
    try:
        record = json.loads(about.read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"can't read the learned start {weights}: {error}; install fastadapt again") from error
    with torch.random.fork_rng(devices=[]):  # a server draws for nobody else
        torch.manual_seed(seed)
        learned, random = (_start(record, name) for name in ("learned", "random"))
    learned.net.load_state_dict(tensors)
    return Pair(kind, learned, random, record)


def _start(record: dict[str, Any], name: str) -> Start:
    said = record["starts"][name]
    return Start(Siren(**said["net"]), rule_of(said["rule"]), record["batch"])


def rule_of(said: dict[str, Any]) -> Rule:
    """Return a rule from a record.

    Example:
        >>> rule_of({"kind": "SGD", "lr": 0.02}).lr
        0.02
    """
    settings = {key: value for key, value in said.items() if key != "kind"}
    return SGD(**settings) if said["kind"] == "SGD" else Adam(**settings)
