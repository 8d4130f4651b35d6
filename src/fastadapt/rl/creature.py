"""What a body with its physics gives to a task: what is seen, how fast it goes, what a step costs."""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np


class Moved(NamedTuple):
    """Hold what one action has led to, one row for each copy of the body."""

    states: np.ndarray
    """`[n, s]`; that of before where the physics was not finite."""
    observations: np.ndarray
    """`[n, o]`."""
    velocity: np.ndarray
    """`[n]`, metres a second along x."""
    cost: np.ndarray
    """`[n]`, what is taken from the reward, whatever the task."""
    ended: np.ndarray
    """`[n]` bool: by the rule of the body."""
    sound: np.ndarray
    """`[n]` bool: the physics was finite."""


class Starts(Protocol):
    """Draw where copies of a body start."""

    def start(self, seeds: list[int]) -> np.ndarray:
        """Return the states `[n, s]`, one drawn from each seed."""
        ...


P = TypeVar("P", bound=Starts)


class Creature(ABC, Generic[P]):
    """Move copies of a body. Controls are in [-1, 1]."""

    observation_size: int
    action_size: int
    physics: P

    def start(self, seeds: list[int]) -> np.ndarray:
        """Return the states `[n, s]` at the start, one drawn from each seed."""
        return self.physics.start(seeds)

    @abstractmethod
    def see(self, states: np.ndarray) -> np.ndarray:
        """Return the observations `[n, o]` at the start, under no control."""

    @abstractmethod
    def move(self, states: np.ndarray, controls: np.ndarray) -> Moved:
        """Take one action `[n, a]`."""
