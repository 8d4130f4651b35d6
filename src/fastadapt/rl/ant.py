"""The ant: a torso on four legs with eight motors (Schulman et al. 2015, arXiv:1506.02438)."""

import numpy as np

from fastadapt.rl.ant_v5_physics import AntV5Physics
from fastadapt.rl.bodies import ANT
from fastadapt.rl.creature import Creature, Moved
from fastadapt.rl.physics import Physics

PARTS = 13
LOWEST, HIGHEST = 0.2, 1.0
"""Between these heights of the torso, in metres, an episode goes on."""


class RllabAnt(Creature[Physics]):
    """Walk as in rllab: an action lasts 0.02 s, and an observation has the contacts, the torso's turn and the centre.

    An observation is `[positions (15), velocities (14), contact forces on the world and the 13 parts, 6 numbers each,
    clipped to [-1, 1] (84), rotation matrix of the torso by rows (9), centre of mass (3)]`. The world's forces are
    always 0. The velocity is that of the centre of mass along x. A step costs
    `0.005 |a|^2 + 0.0005 |clipped forces|^2`, less 0.05 for being alive.
    """

    observation_size = 125
    action_size = 8

    def __init__(self, threads: int) -> None:
        self.physics = Physics(ANT, "contacts", threads)

    def see(self, states: np.ndarray) -> np.ndarray:
        """Return the first observations."""
        told = self.physics.sense(states, np.zeros((len(states), self.action_size)))
        return _seen(states, told, _clipped_forces(told))

    def move(self, states: np.ndarray, controls: np.ndarray) -> Moved:
        """Take one action."""
        after, sound = self.physics.advance(states, controls)
        told = self.physics.sense(after, controls)
        forces = _clipped_forces(told)
        cost = _cost(controls, forces)
        return Moved(after, _seen(after, told, forces), told[:, 3], cost, _fallen(after), sound)


class GymnasiumAnt(Creature[AntV5Physics]):
    """Walk as Gymnasium's Ant-v5 does: an action lasts 0.05 s, and the velocity is that of the torso.

    An observation is `[positions without x and y (13), velocities (14), contact forces on the 13 parts, clipped to
    [-1, 1] (78)]`; the velocity is what the environment calls `x_velocity`. A step costs what it does in `RllabAnt`,
    and not by its own reward.
    """

    observation_size = 105
    action_size = 8

    def __init__(self, threads: int) -> None:
        self.physics = AntV5Physics(threads)

    def see(self, states: np.ndarray) -> np.ndarray:
        """Return the first observations; Gymnasium has no contact forces in them."""
        return np.concatenate([states[:, 3:-1], np.zeros((len(states), 6 * PARTS))], 1)

    def move(self, states: np.ndarray, controls: np.ndarray) -> Moved:
        """Take one action."""
        after, sound, told = self.physics.advance(states, controls)
        forces = np.clip(told[:, 1:], -1.0, 1.0)
        seen = np.concatenate([after[:, 3:-1], forces], 1)
        return Moved(after, seen, told[:, 0], _cost(controls, forces), _fallen(after), sound)


def contact_forces(told: np.ndarray) -> np.ndarray:
    """Return `cfrc_ext` `[n, 13, 6]` of the parts, torque then force, from what the sensors say; see `Physics`."""
    centre = told[:, None, :3]
    force, torque, place = np.split(told[:, 15:].reshape(len(told), PARTS, 9), 3, axis=2)
    # a sensor tells the force of the part on the ground
    return 0.0 - np.concatenate([torque + np.cross(place - centre, force), force], 2)


def _clipped_forces(told: np.ndarray) -> np.ndarray:
    return np.clip(contact_forces(told), -1.0, 1.0).reshape(len(told), 6 * PARTS)


def _seen(states: np.ndarray, told: np.ndarray, forces: np.ndarray) -> np.ndarray:
    turn = told[:, 6:15].reshape(-1, 3, 3).swapaxes(1, 2).reshape(-1, 9)  # the axes are its columns
    return np.concatenate([states[:, 1:], np.zeros((len(states), 6)), forces, turn, told[:, :3]], 1)


def _cost(controls: np.ndarray, forces: np.ndarray) -> np.ndarray:
    return 0.005 * np.square(controls).sum(1) + 0.0005 * np.square(forces).sum(1) - 0.05


def _fallen(states: np.ndarray) -> np.ndarray:
    return (states[:, 3] < LOWEST) | (states[:, 3] > HIGHEST)
