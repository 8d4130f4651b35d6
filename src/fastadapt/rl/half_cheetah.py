"""The half-cheetah: a runner of seven parts in a plane, with six motors (Wawrzynski 2009)."""

import numpy as np

from fastadapt.rl.bodies import HALF_CHEETAH, HALF_CHEETAH_V5
from fastadapt.rl.creature import Creature, Moved
from fastadapt.rl.physics import Physics


class RllabHalfCheetah(Creature[Physics]):
    """Run as in rllab: an action lasts 0.01 s, and what is seen has the centre of mass.

    An observation is `[positions without x (8), velocities (9), centre of mass of the whole body (3)]`; the velocity is
    that of the centre of mass along x; an action costs `0.05 |a|^2`; nothing ends an episode.
    """

    observation_size = 20
    action_size = 6

    def __init__(self, threads: int) -> None:
        self.physics = Physics(HALF_CHEETAH, "centre", threads)

    def see(self, states: np.ndarray) -> np.ndarray:
        """Return the first observations."""
        return _seen(states, self.physics.sense(states, np.zeros((len(states), self.action_size))))

    def move(self, states: np.ndarray, controls: np.ndarray) -> Moved:
        """Take one action."""
        after, sound = self.physics.advance(states, controls)
        told = self.physics.sense(after, controls)
        return Moved(after, _seen(after, told), told[:, 3], _cost(controls), np.zeros_like(sound), sound)


class GymnasiumHalfCheetah(Creature[Physics]):
    """Run as Gymnasium's HalfCheetah-v5 does: an action lasts 0.05 s, and the velocity is that of the torso.

    An observation is `[positions without x (8), velocities (9)]`; the velocity is what the environment calls
    `x_velocity`, the way of the torso along x through 0.05 s; an action costs `0.05 |a|^2`, not the 0.1 of its own
    reward; nothing ends an episode.
    """

    observation_size = 17
    action_size = 6

    def __init__(self, threads: int) -> None:
        self.physics = Physics(HALF_CHEETAH_V5, "nothing", threads)

    def see(self, states: np.ndarray) -> np.ndarray:
        """Return the first observations."""
        return states[:, 2:].copy()

    def move(self, states: np.ndarray, controls: np.ndarray) -> Moved:
        """Take one action."""
        after, sound = self.physics.advance(states, controls)
        velocity = (after[:, 1] - states[:, 1]) / self.physics.body.seconds
        return Moved(after, after[:, 2:].copy(), velocity, _cost(controls), np.zeros_like(sound), sound)


def _seen(states: np.ndarray, told: np.ndarray) -> np.ndarray:
    return np.concatenate([states[:, 2:], told[:, :3]], 1)


def _cost(controls: np.ndarray) -> np.ndarray:
    return 0.05 * np.square(controls).sum(1)
