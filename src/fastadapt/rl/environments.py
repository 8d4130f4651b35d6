"""What environments are here: families that differ by a task, many of them stepped side by side.

A family is found by its versioned id, `family("navigation-v0")`; one of the user's own by `package:function`, see
`fastadapt.rl.gym_family`. What an id names is imported when it is asked for, so that an extra is needed only where it
is used.
"""

import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from fastadapt.errors import ConfigError

FAMILIES = {"navigation-v0": "fastadapt.rl.navigation:Navigation"} | {
    f"{body}-{goal}-{physics}": "fastadapt.rl.locomotion:FAMILIES"
    for body in ("half-cheetah", "ant")
    for goal in ("velocity", "direction")
    for physics in ("v0", "v5")
}
"""Versioned id -> `module:name` of what makes the family: a class, a function without arguments, or a table of them."""
OWN = "fastadapt.rl.gym_family:from_spec"
"""What makes a family of `package:function`, an environment of the user's own."""


class Episodes(Protocol):
    """Hold `n` environments side by side, one episode each.

    An environment's numbers depend on its task, its seed and its actions alone: never on how many run beside it, nor on
    threads. One that has ended stays where it is until all are done; what is returned for it then is not looked at.
    """

    @property
    def observations(self) -> Tensor:
        """`[n, o]`, the present ones, float32 (float64 where the physics has it); an attribute will do."""
        ...

    @property
    def nonfinite(self) -> int:
        """Episodes that were ended because the physics was not finite; an attribute will do."""
        ...

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step in every environment.

        Args:
            actions: `[n, a]` in the normalised space of the policy, where [-1, 1] spans the bounds of the environment,
                which clips to them; or `[n]` int64, the choices of a discrete one.

        Returns:
            The observations `[n, o]` after the step, the rewards `[n]` of it, and `ended: [n]` bool, whether the
            environment has ended by its own rule; the horizon is not one. Where an observation or a reward is not
            finite, the episode ends before this step.
        """
        ...


class Family(Protocol):
    """Describe environments that differ by a task (a goal), many of them at once."""

    name: str
    """Versioned id, such as "navigation-v0" or "half-cheetah-velocity-v0"."""
    observation_size: int
    """Numbers in one observation."""
    action_size: int
    """Numbers in a continuous action; the number of choices of a discrete one."""
    discrete: bool
    """Whether an action is a choice."""
    horizon: int
    """Steps after which an episode ends."""

    def draw_tasks(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return goals `[count, g]`, float64, one row a task, that depend on `rng` alone."""
        ...

    def start(self, tasks: Tensor, seeds: Sequence[int]) -> Episodes:
        """Return `n = len(tasks)` environments side by side, each at its first observation.

        Args:
            tasks: `[n, g]`, the goal of each.
            seeds: `n` whole numbers of at least 0, one for each; all that is random in an environment comes from its
                own.
        """
        ...


def family(name: str) -> Family:
    """Return the family of environments with that id, or of `package:function`.

    Raises:
        ConfigError: if there is no such id.
        MissingExtraError: if it needs a package that is not installed.

    Example:
        >>> family("navigation-v0").horizon
        100
    """
    if name not in FAMILIES and ":" not in name:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f", only {', '.join(sorted(FAMILIES))}"
        raise ConfigError(
            f"there is no family of environments {name!r}{hint}; one of your own is named package:function"
        )
    module, attribute = FAMILIES.get(name, OWN).split(":")
    make = getattr(importlib.import_module(module), attribute)
    if name not in FAMILIES:
        return make(name)
    return make[name]() if isinstance(make, Mapping) else make()
