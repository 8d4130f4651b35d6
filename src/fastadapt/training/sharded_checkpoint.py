"""Checkpoints that all processes write together, each its part, and that any number of processes reads."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from fastadapt.atomic import write_folder
from fastadapt.errors import CheckpointError
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.training import shard_files
from fastadapt.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    rejoin,
    separate,
    step_folder,
    verify,
    write_manifest,
)

WEIGHTS = "learner/"
"""What the name of a tensor of the learner begins with, among those of the optimizer (t0, t1 ..)."""


def save_sharded(folder: Path | None, checkpoint: Checkpoint, ranks: Ranks) -> None:
    """Write a checkpoint below `folder`, of which each process has a part: whole or absent, as any other.

    Every process calls this. The first one makes the folder, waits for the parts, writes manifest and name.

    Args:
        folder: of the checkpoints, in the first process; the others are told.
        checkpoint: what to keep; tensors that are DTensors are written by those that have them.
        ranks: the processes, which see one file system.

    Raises:
        CheckpointError: if it can't be written.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = separate(checkpoint.optimizer, tensors)
    extra = {name: separate(v, tensors) for name, v in checkpoint.learner.items() if not isinstance(v, Tensor)}
    own = [(name, WEIGHTS + name) for name in checkpoint.learner if name not in extra]
    tensors |= {key: checkpoint.learner[name].detach() for name, key in own}
    facts = {"step": checkpoint.step, "sharded": own, "optimizer": skeleton, "state": checkpoint.state}
    facts |= {"extra": extra} if extra else {}

    def fill(temporary: Path) -> None:
        ranks.said(str(temporary))
        shard_files.write(temporary, tensors)
        ranks.gathered(None)  # all have written
        (temporary / "state.json").write_text(json.dumps(facts), encoding="utf-8")
        parts = tuple(sorted(path.name for path in temporary.glob("shard-*.safetensors")))
        write_manifest(temporary, (*parts, "state.json"), sharded=ranks.world)

    if ranks.first:
        assert folder is not None
        write_folder(step_folder(folder, checkpoint.step), fill)
    else:
        shard_files.write(Path(ranks.said("")), tensors)
        ranks.gathered(None)
    ranks.said(None)  # it has its name


def counters_of(path: Path) -> Checkpoint:
    """Return a checkpoint that is found valid, without its tensors.

    Raises:
        CheckpointError: if it is damaged, foreign or of another version.
    """
    verify(path)
    try:
        facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return Checkpoint(int(facts["step"]), {}, {}, facts["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({error})") from None


def load_sharded(path: Path, learner: Learner, optimizer: torch.optim.Optimizer) -> Checkpoint:
    """Fill the parts of a learner in this process from a checkpoint, and return it with the optimizer's state.

    Args:
        path: of a checkpoint that was found valid, sharded over any number of processes, or whole.
        learner: whose parameters may be DTensors; changed in place.
        optimizer: over the learner's parameters, in whose order the state is kept.

    Returns:
        The checkpoint, its `learner` without what is loaded already.
    """
    facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
    params = [p for group in optimizer.param_groups for p in group["params"]]
    own = learner.state_dict()
    if "sharded" not in facts:
        return _parts_of(load_checkpoint(path), own, params)
    known = shard_files.shapes(path)
    _check(path, {name: known[key] for name, key in facts["sharded"]}, own)
    tensors = {key: own[name] for name, key in facts["sharded"]}
    moments = _like(facts["optimizer"], known, params)
    with torch.no_grad():
        shard_files.read(path, {**tensors, **moments})
    rest = {name: rejoin(value, moments) for name, value in facts.get("extra", {}).items()}
    return Checkpoint(int(facts["step"]), rest, rejoin(facts["optimizer"], moments), facts["state"])


def _check(path: Path, known: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse weights that are not those of the learner."""
    mine = {name: value.shape for name, value in own.items() if isinstance(value, Tensor)}
    theirs = {name: shape for name, (shape, _) in known.items()}
    wrong = [name for name in sorted(mine | theirs) if mine.get(name) != theirs.get(name)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{path} does not fit this learner: {name} is {_told(theirs.get(name))} there and "
            f"{_told(mine.get(name))} here"
        )


def _told(shape: torch.Size | None) -> str:
    return "absent" if shape is None else f"of shape {tuple(shape)}"


def _like(skeleton: Any, known: dict[str, Any], params: list[Tensor]) -> dict[str, Tensor]:
    """Return tensors to fill, by the names in an optimizer's state: what has a parameter's shape is split as it is."""
    names: dict[str, Any] = {key: key for key in known}
    named = rejoin(skeleton, names)
    made = {key: torch.empty(size, dtype=kind) for key, (size, kind) in known.items() if not key.startswith(WEIGHTS)}
    for number, state in named["state"].items():
        for key in state.values():
            if isinstance(key, str) and key in made and made[key].shape == params[number].shape:
                made[key] = torch.empty_like(params[number].detach(), dtype=made[key].dtype)
    return made


def _parts_of(checkpoint: Checkpoint, own: dict[str, Any], params: list[Tensor]) -> Checkpoint:
    """Take this process's parts of a checkpoint that is whole."""
    weights = {name: value for name, value in checkpoint.learner.items() if isinstance(value, Tensor)}
    _check(Path(f"step {checkpoint.step}"), {n: (v.shape, v.dtype) for n, v in weights.items()}, own)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(_part(value, own[name]))
    state = {
        number: {k: _part(v, params[number]) if isinstance(v, Tensor) else v for k, v in each.items()}
        for number, each in checkpoint.optimizer["state"].items()
    }
    return Checkpoint(checkpoint.step, {}, {**checkpoint.optimizer, "state": state}, checkpoint.state)


def _part(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
