"""What writes into a module's places while a block is run again in the backward pass writes to what was bound then."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, FirstOrder, Task, adapt, mse

pytestmark = pytest.mark.usefixtures("double")


class Swapped(nn.Module):
    """A block runs with its bias scaled; the classes below put it there in other ways."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.full((4,), 0.7))

    def block(self, x):
        return functional_call(self.first, {"bias": self.first.bias * self.scale}, (x,))

    def forward(self, x):
        return self.last(checkpoint(self.block, x, use_reentrant=False).tanh())


class ByHand(Swapped):
    def block(self, x):
        own = self.first._parameters["bias"]
        self.first._parameters["bias"] = own * self.scale
        try:
            return self.first(x)
        finally:
            self.first._parameters["bias"] = own


class TakenOut(Swapped):
    def block(self, x):
        own = self.first._parameters.pop("bias")
        self.first.bias = own * self.scale  # a plain attribute for a while
        try:
            return self.first(x)
        finally:
            del self.first.bias
            self.first._parameters.update(bias=own)


class Deleted(Swapped):
    def block(self, x):
        own = self.first.bias
        del self.first.bias
        assert "bias" not in self.first._parameters and len(self.first._parameters) == 1
        self.first._parameters |= {"bias": own * self.scale}
        try:
            return self.first(x)
        finally:
            del self.first._parameters["bias"]
            self.first._parameters.setdefault("bias", own)


class Buffered(Swapped):
    """What is computed goes through a buffer."""

    def __init__(self):
        super().__init__()
        self.first.register_buffer("shift", torch.zeros(4))

    def block(self, x):
        self.first.shift = self.first.bias * (self.scale - 1)
        return self.first(x) + self.first.shift


def twin(net, task, steps, first_order):
    def loss(p, batch):
        scale, a, b, c, d = p
        return F.mse_loss((batch[0] @ a.T + b * scale).tanh() @ c.T + d, batch[1])

    start = p = [q.detach().clone().requires_grad_() for q in net.parameters()]
    for _ in range(steps):
        grads = torch.autograd.grad(loss(p, task.support), p, create_graph=True)
        p = [q - 0.2 * (g.detach() if first_order else g) for q, g in zip(p, grads, strict=True)]
    return torch.autograd.grad(loss(p, task.query), start)


@pytest.mark.parametrize("kind", [Swapped, ByHand, TakenOut, Deleted, Buffered])
@pytest.mark.parametrize("steps, way", [(1, "exact"), (3, "exact"), (7, "exact"), (2, FirstOrder()), (3, "adapt")])
def test_a_block_that_writes_is_right_when_it_is_run_again(kind, steps, way):
    net = kind()
    task = Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2)))
    if way == "adapt":
        adapt(mse, net, task.support, SGD(0.2), steps).loss(mse, task.query).backward()
    else:
        MAML(net, mse, rule=SGD(0.2), steps=steps, meta_gradient=way, route="loop")(task).loss.backward()
    for p, want in zip(net.parameters(), twin(net, task, steps, isinstance(way, FirstOrder)), strict=True):
        torch.testing.assert_close(p.grad, want, rtol=1e-10, atol=1e-12)
    assert all(isinstance(p, nn.Parameter) for p in net.parameters())
