"""A network, a loss and tasks for what is watched in Python state."""

import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import Tasks
from reference import grads_of


def mse(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def tasks(seed=0, count=2):
    g = torch.Generator().manual_seed(seed)
    return Tasks(*[tuple(torch.randn(count, n, d, generator=g, dtype=torch.float64) for d in (3, 2)) for n in (4, 5)])


def result(learner, batch):
    learner.zero_grad()
    outcome = learner(batch)
    outcome.loss.backward()
    return {"losses": outcome.losses.clone(), **{n: g.clone() for n, g in grads_of(learner).items()}}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.beta, self.parts, self.flag = 1.0, [1.0], False

    def forward(self, x):
        x = self.layer(x) * self.beta * self.parts[0]
        return x.tanh() if self.training else x
