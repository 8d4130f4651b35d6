"""One outer step: the meta-gradient of a meta-batch moves the weights, unless a number is not finite."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastadapt.learner import Learner, Outcome
from fastadapt.tasks import Tasks
from fastadapt.training.blame import gradient_norm
from fastadapt.training.settings import Training


class Late:
    """Be true or false as soon as somebody asks, which waits for the device: `bool(late)`.

    Args:
        look: waits, and returns which it is.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._found: bool | None = None

    def __bool__(self) -> bool:
        if self._found is None:
            self._found = self._look()
        return self._found


@dataclass(frozen=True)
class Stepped:
    """Hold what one outer step did.

    Args:
        outcome: what the learner made of the tasks.
        moved: whether the weights were moved; false where a number was not finite. A `Late` one is known when it is
            asked for.
        gradient: the norm of the meta-gradient before clipping, a scalar.
        facts: what else is worth a place in the log, by name.
    """

    outcome: Outcome
    moved: bool | Late
    gradient: Tensor
    facts: dict[str, float] = field(default_factory=dict)


OuterStep = Callable[[Learner, list[Tasks], torch.optim.Optimizer, Training], Stepped]


def outer_step(learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training) -> Stepped:
    """Take one step of the outer optimizer; leave everything as it was if a number is not finite."""
    buffers = {name: value.clone() for name, value in learner.named_buffers()}
    optimizer.zero_grad(set_to_none=True)
    outcome = learner(tasks)
    outcome.loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    gradient = gradient_norm([p.grad for p in params if p.grad is not None])
    if not bool(torch.isfinite(outcome.loss) & torch.isfinite(gradient)):
        with torch.no_grad():
            for name, value in learner.named_buffers():
                value.copy_(buffers[name])
        return Stepped(outcome, False, gradient)
    training.clip(params)
    optimizer.step()
    return Stepped(outcome, True, gradient)
