r"""The first-order meta-gradient: inner gradients are taken as constants.

    grad = grad L_Q(theta^k)

With a loss after every step, `grad = sum_j w_j grad L_Q(theta^j)`. With rates that are learned, or other tensors of the
update rule, the updates are differentiated with respect to these.

References:
    Finn, Abbeel, Levine 2017 (arXiv:1703.03400), section 5.2; Nichol, Achiam, Schulman 2018 (arXiv:1803.02999).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.runner import Inline, Runner
from fastadapt.inner.sweep import sweep
from fastadapt.inner.trajectory import Carry, Loop, judged, learns, walk


@dataclass(frozen=True)
class FirstOrder:
    """Take inner gradients as constants (FOMAML).

    Example:
        >>> import torch
        >>> from fastadapt import MAML, SGD, FirstOrder, Task
        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(net.weight)
        >>> column = lambda *v: torch.tensor(v).unsqueeze(1)
        >>> task = Task((column(1.0, 2.0), column(2.0, 3.0)), (column(1.0, 3.0), column(1.0, 5.0)))
        >>> MAML(net, rule=SGD(0.05), meta_gradient=FirstOrder())(task).loss.backward()
        >>> round(float(net.weight.grad), 4)
        -4.5

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400).
    """

    name = "first_order"
    through = False

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Mapping[int, float | Tensor]
    ) -> tuple[Any, Any, Any, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`, see `Differentiation`."""
        last_alone = all(not isinstance(w, Tensor) and w == (j == loop.steps) for j, w in weights.items())
        if fixed["rates"] or not last_alone:
            return sweep(run, loop, start, fixed, task, weights, through=False)
        began = random_state(start) if isinstance(run, Inline) else None
        path = list(walk(run, loop, start, fixed, task, loop.steps))
        carry = path[-1][0] if path else start
        if began is not None and learns(carry):  # by a tensor that can't be seen on the rule, as in a closure
            set_random_state(began)
            return sweep(run, loop, start, fixed, task, weights, through=False)
        (theta, rest), loss, report = judged(run, loop, carry, fixed, task)
        return theta, rest, loss, {"inner": [seen for _, seen in path], "query": report}
