"""How much arithmetic a meta-step needs: the convolutions and linear layers, as autograd runs them.

A layer is a product of its input and its weight, of cost c (a multiplication and an addition count as two). Forward is
c; its gradient is 2c, or c where the input is data. Differentiating *that* again doubles every product that has two
varying factors: 9c for an exact inner step and 4c for a layer on data, against 3c and 2c of a first-order one.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from workloads import Workload

sys.path.insert(0, str(Path(__file__).parent / "workers"))
from on_torch import network


def layers(net: nn.Module, inputs: tuple[int, ...]) -> list[tuple[int, bool]]:
    """Return each layer's cost for one sample, and whether its input is data."""
    found: list[tuple[int, bool]] = []

    def note(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        found.append((2 * output[0].numel() * weight[0].numel(), not given[0].requires_grad))

    handles = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    net(torch.zeros(2, *inputs, device=next(net.parameters()).device))
    for handle in handles:
        handle.remove()
    return found


def of_gradient(costs: list[tuple[int, bool]], exact: bool) -> int:
    """Return the cost of a gradient for one sample; `exact` if it is differentiated again."""
    plain = sum((2 if data else 3) * c for c, data in costs)
    return sum((4 if data else 9) * c for c, data in costs) if exact else plain


def meta_step(workload: Workload) -> int:
    """Return the floating-point operations of one meta-gradient of the whole meta-batch."""
    with torch.device("meta"):
        net = network(workload.net, workload.net_settings)
    costs = layers(net, workload.inputs)
    exact = workload.method == "maml" and not workload.first_order
    inner = workload.steps * workload.support * of_gradient(costs, exact)
    query = 0 if workload.method == "reptile" else workload.query * of_gradient(costs, exact=False)
    return workload.tasks * (inner + query)
