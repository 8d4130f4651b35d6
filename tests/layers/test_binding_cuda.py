"""On a GPU backward passes run on a thread of their own, and parts of a module that are run again with them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, Exact, Task, adapt

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Net(nn.Module):
    def __init__(self, run_again, norm):
        super().__init__()
        self.run_again = run_again
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.middle = nn.Sequential(nn.Linear(6, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(checkpoint(self.middle, h, use_reentrant=False) if self.run_again else self.middle(h))


def tasks():
    def pair(n):
        return torch.randn(n, 3).double().cuda(), torch.randn(n, 2).double().cuda()

    return [Task(pair(4), pair(5)) for _ in range(2)]


@pytest.mark.parametrize("norm", [None, "transductive", "support"])
@pytest.mark.parametrize(
    "steps, gradient", [(1, "exact"), (3, "exact"), (7, "exact"), (4, Exact(2)), (3, "first_order")]
)
def test_a_checkpointed_network_has_the_gradient_of_the_plain_one(steps, gradient, norm):
    again, plain = (Net(flag, norm is not None).double().cuda() for flag in (True, False))
    plain.load_state_dict(again.state_dict())
    batch = tasks()
    for net in (again, plain):
        learner = MAML(net, rule=SGD(0.3), steps=steps, meta_gradient=gradient, norm=norm or "transductive")
        learner(batch).loss.backward()
    for p, q in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-9, atol=1e-12)


def test_a_graph_that_leaves_adapt():
    again, plain = (Net(flag, False).double().cuda() for flag in (True, False))
    plain.load_state_dict(again.state_dict())
    task = tasks()[0]
    for net in (again, plain):
        phi = adapt(F.mse_loss, net, task.support, SGD(0.3), 3)
        phi.loss(F.mse_loss, task.query).backward()
    for p, q in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-9, atol=1e-12)
