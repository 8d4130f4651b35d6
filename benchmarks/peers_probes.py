"""Ask one library four questions about its inner loop, and print the answers as JSON: `peers_probes.py higher`.

peers_side_by_side.py runs it in each library's environment.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unused(nn.Module):
    """Have a parameter that the loss does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Use one layer of two."""
        return self.used(x)


def loss(model: Any, x: Tensor) -> Tensor:
    """Return a loss that needs no targets."""
    return F.mse_loss(model(x), x.sum(1, keepdim=True))


def by_clone(maml: Any, x: Tensor) -> Tensor:
    """Return the loss after one step of a `clone()`."""
    learner = maml.clone()
    learner.adapt(loss(learner, x))
    return loss(learner, x)


def learn2learn(net: nn.Module, x: Tensor) -> Tensor:
    """Return the loss after one step."""
    from learn2learn.algorithms import MAML

    return by_clone(MAML(net, lr=0.1), x)


def iteryne(net: nn.Module, x: Tensor) -> Tensor:
    """Return the loss after one step."""
    from iteryne import MAML

    return by_clone(MAML(net, inner_lr=0.1), x)


def higher(net: nn.Module, x: Tensor) -> Tensor:
    """Return the loss after one step."""
    import higher

    inner = torch.optim.SGD(net.parameters(), lr=0.1)
    with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, optimizer):
        optimizer.step(loss(fast, x))
        return loss(fast, x)


def torchopt(net: nn.Module, x: Tensor) -> Tensor:
    """Return the loss after one step."""
    import torchopt

    inner = torchopt.MetaSGD(net, lr=0.1)
    start = torchopt.extract_state_dict(net, by="reference")
    inner.step(loss(net, x))
    after = loss(net, x)
    torchopt.recover_state_dict(net, start)
    return after


def fastadapt(net: nn.Module, x: Tensor) -> Tensor:
    """Return the loss after one step."""
    import fastadapt as fa

    return fa.adapt(loss, net, x, fa.SGD(0.1), steps=1).loss(loss, x)


def works(call: Callable[[], Tensor]) -> bool:
    """Return whether the outer gradient of an inner loop can be computed."""
    try:
        call().sum().backward()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def answers(inner: Callable[[nn.Module, Tensor], Tensor]) -> dict[str, bool]:
    """Return what holds for a library."""
    torch.manual_seed(0)
    x = torch.randn(6, 2)
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    before = net[1].running_mean.clone()
    inner(net, x)
    kept = torch.equal(before, net[1].running_mean)
    frozen = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    frozen[0].bias.requires_grad_(False)
    plain = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    return {
        "keeps the running averages": kept,
        "adapts beside a frozen parameter": works(lambda: inner(frozen, x)),
        "adapts beside an unused parameter": works(lambda: inner(Unused(), x)),
        "runs under torch.func.vmap": works(lambda: torch.func.vmap(lambda x: inner(plain, x))(torch.randn(3, 6, 2))),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = answers(globals()[sys.argv[1]])
    print(json.dumps(found))
