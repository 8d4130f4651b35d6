"""One of the processes of `test_distributed.py`: trains on its share of the tasks and saves what it ends with."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastadapt import MAML, SGD, Adam, Learner, Reptile, Task

METHODS = {
    "maml": lambda net: MAML(net, rule=SGD(0.1), steps=2),
    "anil": lambda net: MAML(net, rule=SGD(0.1), steps=2, adapt="head", route="loop"),
    "reptile": lambda net: Reptile(net, rule=Adam(0.01), steps=3),
}


def learner_of(method: str) -> Learner:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()
    net[0].bias.requires_grad_(False)
    return METHODS[method](net)


def eight_tasks() -> list[Task]:
    source = torch.Generator().manual_seed(1)

    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(n, 3, generator=source, dtype=torch.float64)
        return x, torch.randn(n, 1, generator=source, dtype=torch.float64)

    return [Task(batch(6), batch(4)) for _ in range(8)]


def train(module: nn.Module, tasks: list[Task]) -> list[torch.Tensor]:
    """Return the gradients of the first step and the weights after three."""
    optimizer, first = torch.optim.Adam(module.parameters(), 0.01), []
    for _ in range(3):
        optimizer.zero_grad()
        module(tasks).loss.backward()
        first = first or [p.grad.clone() for p in module.parameters() if p.requires_grad]
        optimizer.step()
    return [*first, *(p.detach() for p in module.parameters())]


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    share = eight_tasks()[4 * rank : 4 * rank + 4]
    results = {name: train(DistributedDataParallel(learner_of(name)), share) for name in METHODS}
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()
