"""The two starts of a fit: the one that was learned, which comes with fastadapt, and a random one."""

import copy
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fastadapt.errors import CheckpointError
from fastadapt.losses import PSNR, SNR
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.siren import Siren
from fastadapt.rules.rules import SGD, Adam, Rule
from fastadapt.runs.shipped import SHIPPED

Kind = Literal["photo", "sound"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDER = SHIPPED / "starts"
"""Weights and record of each learned start; `benchmarks/starts.py` writes them."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Hold both starts of one kind of signal, each with the rule that serves it best on validation signals.

    Args:
        kind: of signal.
        learned: begins at the learned weights.
        random: begins at random weights of the frequency that was tuned for such.
        record: how they came about, and what was measured of them.
    """

    kind: Kind
    learned: Reptile
    random: Reptile
    record: dict[str, Any]

    def copied(self) -> "Pair":
        """Return a copy that nobody else runs: what adapts writes to its module for a moment."""
        return Pair(self.kind, copy.deepcopy(self.learned), copy.deepcopy(self.random), self.record)


@cache
def load_pair(kind: Kind, seed: int = 0) -> Pair:
    """Return the two starts of a kind of signal; whoever runs them takes a copy.

    Args:
        kind: "photo" or "sound".
        seed: of the random start.

    Raises:
        CheckpointError: if the files that come with fastadapt can't be read.

    Example:
        >>> pair = load_pair("photo")
        >>> pair.learned.model(torch.zeros(1, 2)).shape
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
        learned, random = (_learner(record, name) for name in ("learned", "random"))
    learned.model.load_state_dict(tensors)
    return Pair(kind, learned, random, record)


def _learner(record: dict[str, Any], name: str) -> Reptile:
    said = record["starts"][name]
    loss = PSNR() if record["kind"] == "photo" else SNR()
    net = Siren(**said["net"])
    learner = Reptile(net, loss, rule=rule_of(said["rule"]), steps=1, test_batch=record["batch"], route="loop")
    learner.eval()
    return learner


def rule_of(said: dict[str, Any]) -> Rule:
    """Return a rule from a record.

    Example:
        >>> rule_of({"kind": "SGD", "lr": 0.02}).lr
        0.02
    """
    settings = {key: value for key, value in said.items() if key != "kind"}
    return SGD(**settings) if said["kind"] == "SGD" else Adam(**settings)
