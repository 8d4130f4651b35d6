"""What a module writes to its buffers in an inner step is dropped, in a learner as in `adapt`."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Task, adapt, mse

pytestmark = pytest.mark.usefixtures("double")


class Counting(nn.Module):
    """Take away a running mean that every pass moves, in place or by a new tensor."""

    def __init__(self, in_place):
        super().__init__()
        self.layer, self.in_place = nn.Linear(3, 2), in_place
        self.register_buffer("seen", torch.ones(2))

    def forward(self, x):
        h = self.layer(x)
        if self.in_place:
            with torch.no_grad():
                self.seen.mul_(0.5).add_(h.mean(0))
        else:
            self.seen = 0.5 * self.seen + h.mean(0).detach()
        return h - self.seen


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_the_buffers_of_every_step_are_the_modules_own(in_place, route):
    net = Counting(in_place)
    task = Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2)))

    p = [q.detach().clone().requires_grad_() for q in net.parameters()]
    start = p

    def loss(p, batch):
        h = batch[0] @ p[0].T + p[1]
        return (h - 0.5 - h.mean(0).detach() - batch[1]).square().mean()

    for _ in range(3):
        grads = torch.autograd.grad(loss(p, task.support), p, create_graph=True)
        p = [q - 0.3 * g for q, g in zip(p, grads, strict=True)]
    want = torch.autograd.grad(loss(p, task.query), start)

    phi = adapt(mse, net, task.support, SGD(0.3), 3)
    for name, q in zip(phi, p, strict=True):
        torch.testing.assert_close(phi[name], q)
    phi.loss(mse, task.query).backward()
    got = [q.grad for q in net.parameters()]
    net.zero_grad()
    MAML(net, mse, rule=SGD(0.3), steps=3, route=route)(task).loss.backward()
    for one, other, w in zip(got, [q.grad for q in net.parameters()], want, strict=True):
        torch.testing.assert_close(one, w, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(other, w, rtol=1e-10, atol=1e-12)
    assert torch.equal(net.seen, torch.ones(2))
