"""What a learner needs whose meta-gradient is a displacement: the rule's state between tasks, and what it refuses."""

from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils import _pytree as pytree

from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.results import without_graph
from fastadapt.tasks import Tasks

InnerState = Literal["reset", "serial", "mean"]


class RuleState(nn.Module):
    """Hold the state of an inner rule between tasks, as buffers.

    Args:
        state: the state at the start, a pytree of tensors.
    """

    def __init__(self, state: Any) -> None:
        super().__init__()
        leaves, structure = pytree.tree_flatten(state)
        # plain containers, because torch's own description of a structure can't be copied or pickled in silence
        self.places = pytree.tree_unflatten(list(range(len(leaves))), structure)
        for i, leaf in enumerate(leaves):
            self.register_buffer(f"leaf_{i}", leaf.clone())

    def value(self) -> Any:
        """Return the state."""
        return pytree.tree_map(lambda i: getattr(self, f"leaf_{i}"), self.places)

    @torch.no_grad()
    def keep(self, state: Any) -> None:
        """Take the values of a state of the same structure."""
        for i, leaf in enumerate(pytree.tree_leaves(state)):
            getattr(self, f"leaf_{i}").copy_(leaf)


def check_inner_state(inner_state: str) -> None:
    """Refuse what is no way to keep a rule's state between tasks.

    Raises:
        ConfigError: for such.
    """
    if inner_state not in get_args(InnerState):
        raise ConfigError(f"inner_state must be 'reset', 'serial' or 'mean', got {inner_state!r}")


def refuse_derivatives(learner: GradientLearner, groups: list[Tasks]) -> None:
    """Refuse what requires a gradient and would get none: `backward()` hands out a displacement of the weights.

    Raises:
        TaskError: for such.
    """
    others = [name for name in learner.learned() if name.startswith("rates ") or ":" in name]
    if any(group.stacked and without_graph(group).wanted for group in groups):
        others.append("a tensor of the tasks")
    if others and torch.is_grad_enabled():
        raise TaskError(
            f"{others[0]} requires a gradient, and {type(learner).__name__}'s backward() is a displacement of the "
            "adapted weights, no derivative; freeze it (requires_grad_(False)), pass tensor.detach(), or use MAML"
        )
