"""What the workers on PyTorch share: the network, the tasks, the outer Adam and Reptile by copies."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from answering import Arrays
from torch import Tensor, nn

from fastadapt.nets.conv4 import Conv4
from fastadapt.nets.mlp import MLP

Task = tuple[Tensor, Tensor, Tensor, Tensor]


def network(kind: str, settings: dict[str, Any]) -> nn.Module:
    """Return the network of a workload."""
    if kind == "resnet12":
        from fastadapt.nets.resnet12 import ResNet12  # type: ignore[import-not-found]

        return ResNet12(**settings)
    if kind == "transformer":
        from transformer import Transformer

        return Transformer(**settings)
    return {"conv4": Conv4, "mlp": MLP}[kind](**settings)


class OnTorch:
    """Hold a workload; a library's worker adds `meta_gradient`."""

    net: nn.Module
    tasks: list[Task]

    def versions(self) -> dict[str, str]:
        """Return the version of torch."""
        return {"torch": torch.__version__}

    def load(self, spec: dict[str, Any], arrays: Arrays) -> None:
        """Build the network with the given weights, and the tasks."""
        dtype = getattr(torch, spec["dtype"])
        self.spec, self.lr, self.inner_steps = spec, spec["lr"], spec["steps"]
        self.first_order, self.reptile = spec["first_order"], spec["method"] == "reptile"
        self.net = network(spec["net"], spec["net_settings"]).to(dtype)
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                p.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
        parts = [torch.from_numpy(arrays[name]) for name in ("support_x", "support_y", "query_x", "query_y")]
        self.whole = [part.to(dtype) if part.is_floating_point() else part for part in parts]
        self.use(self.whole)
        self.loss = F.cross_entropy if spec["loss"] == "cross_entropy" else F.mse_loss
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=spec["outer_lr"])
        self.prepare()

    def use(self, arrays: list[Tensor]) -> None:
        """Take support and query of all tasks, each `[tasks, samples, ...]`."""
        self.tasks = list(zip(*arrays, strict=True))

    def prepare(self) -> None:
        """Build what the library needs once."""

    def meta_gradient(self) -> None:
        """Add the meta-gradient of all tasks to `.grad`."""
        raise NotImplementedError

    def reptile_by_copies(self) -> None:
        """Add `phi - mean_i phi_i`: each task trains a copy of the network with `torch.optim.Adam`."""
        for x, y, _, _ in self.tasks:
            copied = copy.deepcopy(self.net)
            optimizer = torch.optim.Adam(copied.parameters(), lr=self.lr, betas=(0.0, 0.999))
            for _ in range(self.inner_steps):
                optimizer.zero_grad()
                self.loss(copied(x), y).backward()
                optimizer.step()
            self.add_displacement(copied.parameters())

    @torch.no_grad()
    def add_displacement(self, adapted: Any) -> None:
        """Add one task's share of `phi - mean_i phi_i`."""
        for p, q in zip(self.net.parameters(), adapted, strict=True):
            moved = (p - q) / len(self.tasks)
            p.grad = moved if p.grad is None else p.grad + moved

    def gradient(self, task: int | None) -> Arrays:
        """Return the meta-gradient by the parameters' names; with a `task`, of copies of that one only."""
        if task is not None:
            self.use([part[task].expand_as(part).contiguous() for part in self.whole])
        self.optimizer.zero_grad()
        self.meta_gradient()
        self.use(self.whole)
        return {name: p.grad.numpy().copy() for name, p in self.net.named_parameters() if p.grad is not None}

    def steps(self, count: int) -> None:
        """Make `count` outer steps."""
        for _ in range(count):
            self.optimizer.zero_grad()
            self.meta_gradient()
            self.optimizer.step()
