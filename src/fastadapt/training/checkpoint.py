"""Checkpoints: atomic, verified, exact to resume from, and free of pickles.

`checkpoints/step-00000100/` holds `learner.safetensors`, `optimizer.safetensors`, `state.json` and
`manifest.json` with the SHA-256 of each. The folder is written under another name, flushed and renamed, so a
`step-N` that exists is complete; the newest *valid* one is found by looking, not by a pointer that could lie.
Where each process keeps a part of the weights, `shard-*.safetensors` hold all tensors in their place: see
`fastadapt.training.sharded_checkpoint`.
"""

import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastadapt.atomic import explain, put_back, sha256, write_folder
from fastadapt.errors import CheckpointError
from fastadapt.training import shard_files
from fastadapt.training.saved_steps import saved_steps

FORMAT = 1
FILES = ("learner.safetensors", "optimizer.safetensors", "state.json")
logger = logging.getLogger("fastadapt")


@dataclass(frozen=True)
class Checkpoint:
    """Hold what a run needs to go on exactly where it was.

    Args:
        step: outer steps done.
        learner: the learner's `state_dict`, with what `get_extra_state` of its modules gave.
        optimizer: the optimizer's `state_dict`.
        state: counters and anything else made of JSON values.
    """

    step: int
    learner: dict[str, Any]
    optimizer: dict[str, Any]
    state: dict[str, Any]


def separate(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `tree` as JSON values, its tensors moved to `tensors` and replaced by their names."""
    if isinstance(tree, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = _stored(tree)
        return {"complex" if tree.is_complex() else "tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, separate(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {"tuple" if isinstance(tree, tuple) else "list": [separate(value, tensors) for value in tree]}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return {"value": tree}
    raise CheckpointError(f"a state holds a {type(tree).__name__}, which is not a number, text, list, dict or tensor")


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is written: safetensors knows no complex numbers of every size, so that they are pairs."""
    tensor = tensor.detach().clone().contiguous()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def rejoin(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `separate`."""
    [(kind, content)] = tree.items()
    if kind in ("tensor", "complex"):
        return torch.view_as_complex(tensors[content]) if kind == "complex" else tensors[content]
    if kind == "dict":
        return {key: rejoin(value, tensors) for key, value in content}
    if kind in ("list", "tuple"):
        items = [rejoin(value, tensors) for value in content]
        return tuple(items) if kind == "tuple" else items
    return content


def step_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` lies."""
    return folder / f"step-{step:08d}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below `folder` and return its own folder.

    Raises:
        CheckpointError: if it can't be written; older checkpoints are unchanged.
    """
    target = step_folder(folder, checkpoint.step)

    def fill(temporary: Path) -> None:
        tensors: dict[str, Tensor] = {}
        skeleton = separate(checkpoint.optimizer, tensors)
        # a module's get_extra_state() may be anything
        extra = {name: separate(v, tensors) for name, v in checkpoint.learner.items() if not isinstance(v, Tensor)}
        own = {name: value for name, value in checkpoint.learner.items() if name not in extra}
        learner = {name: _stored(value) for name, value in own.items()}
        pairs = [name for name, value in own.items() if value.is_complex()]
        save_file(learner, temporary / "learner.safetensors")
        save_file(tensors, temporary / "optimizer.safetensors")
        state = {"step": checkpoint.step, "optimizer": skeleton, "state": checkpoint.state}
        state |= ({"complex": pairs} if pairs else {}) | ({"extra": extra} if extra else {})
        (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
        write_manifest(temporary, FILES)

    try:
        write_folder(target, fill)
    except (SafetensorError, RuntimeError) as error:  # how safetensors reports a failed write
        if isinstance(error, CheckpointError):
            raise
        number = re.search(r"os error (\d+)", str(error))
        raise explain(OSError(int(number[1]) if number else 0, str(error)), target) from error
    return target


def write_manifest(folder: Path, names: tuple[str, ...], **facts: Any) -> None:
    """Write `manifest.json` with size and SHA-256 of the named files, and other facts."""
    files = {name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}
    (folder / "manifest.json").write_text(
        json.dumps({"format": FORMAT, **facts, "files": files}, indent=1), encoding="utf-8"
    )


def verify(folder: Path, names: tuple[str, ...] = FILES) -> None:
    """Raise `CheckpointError` unless `folder` holds exactly what its manifest says."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
        listed = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no manifest.json, so it can't be trusted") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/manifest.json can't be read ({error})") from None
    if version != FORMAT:
        raise CheckpointError(f"{folder} has format {version!r}, this version of fastadapt reads format {FORMAT}")
    if manifest.get("sharded"):  # no file of its own for learner and optimizer
        names = tuple(sorted({*listed, "state.json"}))
    for name in names:
        path = folder / name
        if name not in listed or not path.is_file():
            raise CheckpointError(f"{folder} lacks {name}")
        if path.stat().st_size != listed[name][0] or sha256(path) != listed[name][1]:
            raise CheckpointError(f"{path} is damaged: its size or SHA-256 is not the one in the manifest")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: if it is damaged, foreign or of another version.
    """
    verify(folder)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if "sharded" in state:
            every = shard_files.whole(folder)
            learner: dict[str, Any] = {name: every.pop(key) for name, key in state["sharded"]}
            tensors = every
        else:
            learner, tensors = load_file(folder / "learner.safetensors"), load_file(folder / "optimizer.safetensors")
        optimizer = rejoin(state["optimizer"], tensors)
        if folder.name != step_folder(folder.parent, int(state["step"])).name:
            raise CheckpointError(f"{folder} holds step {state['step']}: it was renamed, and its name can't be trusted")
        learner |= {name: torch.view_as_complex(learner[name]) for name in state.get("complex", ())}
        learner |= {name: rejoin(value, tensors) for name, value in state.get("extra", {}).items()}
        return Checkpoint(int(state["step"]), learner, optimizer, state["state"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} can't be read ({error})") from None


def _valid(folder: Path, load: Callable[[Path], Checkpoint] = load_checkpoint) -> Iterator[Checkpoint]:
    for path in saved_steps(folder):
        try:
            yield load(path)
        except CheckpointError as error:
            logger.warning("skipping a checkpoint: %s", error)


def latest_checkpoint(folder: Path, load: Callable[[Path], Checkpoint] = load_checkpoint) -> Checkpoint | None:
    """Return the newest valid checkpoint, or None if there has never been one.

    Damaged ones are skipped with one warning each, those that `load` raises a `CheckpointError` for.

    Raises:
        CheckpointError: if there are checkpoints but none is valid.
    """
    checkpoint = next(_valid(folder, load), None)
    if checkpoint is None and saved_steps(folder):
        raise CheckpointError(
            f"none of the {len(saved_steps(folder))} checkpoints in {folder} is valid; "
            "restore one from a backup, or remove the folder to start afresh"
        )
    return checkpoint


def best_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the valid checkpoint with the best validation score, or the newest if none was scored.

    A score on fewer tasks than was asked for, as minutes may allow no more, yields to one on all.
    """
    every = list(_valid(folder))
    best = _best_first(every)
    return best[0] if best else (every[0] if every else None)


def best_checkpoints(folder: Path, count: int) -> list[Checkpoint]:
    """Return the `count` valid checkpoints with the best validation scores, the best first.

    Raises:
        CheckpointError: if there are not so many.
    """
    best = _best_first(list(_valid(folder)))[:count]
    if len(best) < count:
        raise CheckpointError(
            f"{folder} has {len(best)} checkpoints that were validated, and {count} are asked for; train with "
            f"--training.keep-best {count}, and validate at least so often"
        )
    return best


def _best_first(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    scored = [c for c in checkpoints if c.state.get("score") is not None]
    return sorted(scored, key=lambda c: (_rank(c.state), c.step), reverse=True)


def _rank(state: dict[str, Any]) -> tuple[float, float]:
    """Return what one score is better than another by: the tasks it was measured on, and its value."""
    score = state.get("score")
    return (-math.inf, -math.inf) if score is None else (state.get("score_tasks") or math.inf, float(score))


def prune(folder: Path, keep: int, keep_best: int = 1) -> None:
    """Remove all but the newest `keep` and the best `keep_best` checkpoints; and what a killed run left half-written.

    Checkpoints that are not valid do not count among the kept ones, so the newest valid one always stays.
    """
    sweep(folder)
    valid: list[tuple[tuple[float, float], Path]] = []
    for path in saved_steps(folder):
        try:
            verify(path)
            rank = _rank(json.loads((path / "state.json").read_text(encoding="utf-8"))["state"])
        except (CheckpointError, OSError, ValueError, KeyError):
            continue
        valid.append((rank, path))
    scored = [pair for pair in valid if pair[0][0] > -math.inf]
    best = {path for _, path in sorted(scored, key=lambda pair: (pair[0], pair[1].name))[-max(keep_best, 1) :]}
    for _, path in valid[max(keep, 1) :]:
        if path not in best:
            shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half-written; a checkpoint that was about to be replaced stands where it stood."""
    for leftover in folder.glob("*.tmp"):
        put_back(leftover)
        shutil.rmtree(leftover, ignore_errors=True)


def environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return what bit-exactness depends on besides the seed: the build, the device, the threads, several processes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    many = {"processes": processes} if processes > 1 else {}
    return {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads(), **many}
