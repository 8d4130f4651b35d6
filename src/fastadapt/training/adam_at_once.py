"""Adam's step of all parameters together: the operations of torch's own, in its order, on lists of tensors.

What torch's Adam does around each of them takes longer than a small network's moments do.
"""

from typing import Any

import torch
import torch.optim.optimizer as torch_optimizer
from torch import Tensor

PLAIN: dict[str, Any] = {
    **dict.fromkeys(("amsgrad", "capturable", "differentiable", "maximize"), False),
    **dict.fromkeys(("foreach", "fused"), None),
    "weight_decay": 0,
}
"""Options of Adam as it is built by default: with others, its own step says what they mean."""


def move(optimizer: torch.optim.Optimizer) -> None:
    """Take a step of an optimizer, with the bits of its own `step`.

    With m and v the moments, g the gradient and t the number of the step, Adam's is

        m <- m + (1 - beta1) (g - m),   v <- beta2 v + (1 - beta2) g^2
        theta <- theta - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Any other optimizer, one with hooks or options of its own, and one that has not stepped yet, takes its `step`.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.Adam([weight], lr=0.1)
        >>> for _ in range(2):  # the first makes the optimizer's state
        ...     weight.grad = torch.ones(2)
        ...     move(optimizer)
        >>> weight.data
        tensor([0.8000, 0.8000])

    References:
        Kingma, Ba 2015 (arXiv:1412.6980), Algorithm 1.
    """
    columns = _columns(optimizer)
    if columns is None:
        optimizer.step()
        return
    with torch.no_grad():
        for group, (params, grads, means, squares, steps) in zip(optimizer.param_groups, columns, strict=True):
            if not params:
                continue
            beta1, beta2 = group["betas"]
            torch._foreach_add_(steps, 1)
            step = steps[0].item()
            torch._foreach_lerp_(means, grads, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_div_(roots, (1 - beta2**step) ** 0.5)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_addcdiv_(params, means, roots, -group["lr"] / (1 - beta1**step))


def _columns(optimizer: torch.optim.Optimizer) -> list[list[list[Tensor]]] | None:
    """Return parameters, gradients, both moments and steps of each group; None where its own step is to be taken."""
    hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks, *_hooks_of_all()
    if type(optimizer) is not torch.optim.Adam or any(hooks) or "step" in vars(optimizer):
        return None  # a scheduler of torch counts steps by a function in its place
    found = []
    for group in optimizer.param_groups:
        if any(group.get(name) != value for name, value in PLAIN.items()):
            return None
        if not all(isinstance(value, (int, float)) for value in (group["lr"], *group["betas"])):
            return None
        rows = []
        for p in group["params"]:
            if p.grad is None:
                continue
            state = optimizer.state.get(p)
            if not state:
                return None
            row = (p, p.grad, state["exp_avg"], state["exp_avg_sq"])
            if not all(_plain(tensor, p) for tensor in row):
                return None
            rows.append((*row, state["step"]))
        if len({float(row[4]) for row in rows}) > 1:  # one had no gradient at some step
            return None
        found.append([[row[i] for row in rows] for i in range(5)])
    return found


def _hooks_of_all() -> tuple[Any, Any]:
    return torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks


def _plain(tensor: Tensor, p: Tensor) -> bool:
    return tensor.is_cpu and tensor.is_floating_point() and tensor.dtype is p.dtype and not tensor.is_sparse
