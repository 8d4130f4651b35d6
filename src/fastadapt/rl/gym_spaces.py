"""What a policy's numbers are in a user's environment: actions and observations of Gymnasium's spaces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastadapt.errors import ConfigError


@dataclass(frozen=True)
class Actions:
    """Translate what a policy does into an action of the environment.

    Args:
        size: numbers of a continuous action, or choices.
        discrete: whether it is a choice.
        translate: from `[size]` in the policy's space, or a choice, to what `env.step` takes.
        probe: some action, to try the environment with.
    """

    size: int
    discrete: bool
    translate: Callable[[Any], Any]
    probe: Any


def actions_of(space: Any, name: str) -> Actions:
    """Return the translation for an action space.

    A `Discrete` space has its choices numbered from 0. A `Box` is flattened; along each number that has both bounds
    [-1, 1] spans them, and what is beyond is clipped; a number without one of its bounds is passed on as it is, clipped
    to the bound that it has.

    Raises:
        ConfigError: for any other space; the message has what to do.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return Actions(int(space.n), True, lambda choice: first + int(choice), 0)
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(
            f"{name} takes actions of {space}, and a policy gives real numbers (Box of floats) or one choice "
            "(Discrete); wrap it in gymnasium.wrappers.TransformAction with such a space"
        )
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    if not low.size:
        raise ConfigError(f"{name} takes actions of {space}, which have no numbers; give it some")
    bounded = np.isfinite(low) & np.isfinite(high)
    least, span = np.where(bounded, low, 0.0), np.where(bounded, high - low, 0.0)

    def translate(action: np.ndarray) -> np.ndarray:
        spanned = np.where(bounded, least + (action + 1.0) / 2.0 * span, action)
        return np.clip(spanned, low, high).astype(space.dtype).reshape(space.shape)

    return Actions(low.size, False, translate, np.zeros(low.size))


@dataclass(frozen=True)
class Observations:
    """Read what an environment returns.

    Args:
        shape: what each must have.
        dtype: what it becomes, float32, or float64 where the environment has it.
    """

    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Numbers in one."""
        return int(np.prod(self.shape))

    def read(self, observation: Any) -> np.ndarray:
        """Return the numbers of one observation, flat.

        Raises:
            ValueError: if it is not of the space that the environment names.
        """
        found = np.asarray(observation)
        if found.shape != self.shape or found.dtype.kind not in "fiub":
            raise ValueError(
                f"an observation of shape {list(found.shape)} and type {found.dtype}, where its observation_space says "
                f"{list(self.shape)} numbers"
            )
        return found.astype(self.dtype).ravel()


def observations_of(space: Any, name: str) -> Observations:
    """Return how observations of a space are read: a `Box` of any shape, flattened.

    Raises:
        ConfigError: for any other space; the message has what to do.
    """
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or not int(np.prod(space.shape)):
        raise ConfigError(
            f"{name} returns observations of {space}, and a policy sees real numbers (Box); wrap it in "
            "gymnasium.wrappers.FlattenObservation, which makes such ones of Dict, Tuple and Discrete"
        )
    return Observations(tuple(space.shape), np.float64 if space.dtype == np.float64 else np.float32)
