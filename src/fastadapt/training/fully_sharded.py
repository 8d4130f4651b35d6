"""Weights and moments of which each process keeps a part: FSDP2 around the learner, for models that outgrow one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.training.blame import gradient_norm
from fastadapt.training.checkpoint import Checkpoint
from fastadapt.training.sharded import ShardedStep, Share
from fastadapt.training.sharded_checkpoint import counters_of, load_sharded, save_sharded


class FullySharded(ShardedStep):
    """Take outer steps as `ShardedStep` does, while each process keeps 1/W of every parameter and of its moments.

    Between steps a parameter is a DTensor, split by its first dimension. For a step FSDP2 gathers all of them, the
    learner runs its inner loops on whole tensors as ever, and the meta-gradient is reduced to its parts, which the
    optimizer moves. So weights, gradients and activations of a step have to fit, and what is saved is the rest: with
    Adam two moments, and between steps the weights. FSDP2 goes around the learner, never around the network inside it,
    whose parameters the inner loop replaces.

    Args:
        learner: the learner; its parameters are parts until `restore`.
        ranks: the processes.

    Raises:
        ConfigError: for parameters that can't be split.
    """

    def __init__(self, learner: Learner, ranks: Ranks) -> None:
        self.ranks, self.learner = ranks, learner
        for name, p in learner.named_parameters():
            if not p.dim() or p.is_complex():
                kind = "complex" if p.is_complex() else "a single number"
                raise ConfigError(
                    f"{name} is {kind}, which --sharding full can't split; take rates that are fixed or have a "
                    "dimension, or leave --sharding out"
                )
        device = next(learner.parameters()).device
        for tensor in (*learner.parameters(), *learner.buffers()):
            torch.distributed.broadcast(tensor.detach(), src=0)
        self._places = [
            (part, name, p) for part in learner.modules() for name, p in part._parameters.items() if p is not None
        ]
        module = Share(learner)
        fully_shard(module, mesh=init_device_mesh(device.type, (ranks.world,)))
        assert isinstance(module, FSDPModule)
        self.module: Any = module
        for _, _, p in self._places:
            p.data = p.data.new_empty(0)  # the whole is kept by nobody

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block every process has the whole of every parameter, to look at and not to change."""
        self.module.unshard()
        try:
            yield
        finally:
            self.module.reshard()

    def restore(self) -> None:
        """Give the learner whole parameters again, in the objects that it had."""
        split = {id(p) for p in self.learner.parameters()}
        for part, name, p in self._places:
            held: Any = part._parameters[name]
            if id(held) in split:  # else it has a second name
                split.remove(id(held))
                p.data = held.data.full_tensor()
            part._parameters[name] = p

    def gradient_norm(self, grads: list[Tensor]) -> Tensor:
        """Return the norm of the whole gradient."""
        norm = gradient_norm(grads)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def save(self, folder: Path | None, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, of which each process has a part; `folder` is known to the first one."""
        save_sharded(folder, checkpoint, self.ranks)

    def counters_of(self, path: Path) -> Checkpoint:
        """Return a checkpoint that is found valid, without its tensors."""
        return counters_of(path)

    def load(self, path: Path, optimizer: torch.optim.Optimizer) -> Checkpoint:
        """Fill the parts of this process from a checkpoint, and return it with the optimizer's state."""
        return load_sharded(path, self.learner, optimizer)
