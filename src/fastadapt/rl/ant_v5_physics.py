"""The ant is moved as Gymnasium's Ant-v5 moves it, contact forces and all."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastadapt.rl.bodies import ANT_V5, installed, quiet
from fastadapt.rl.physics import settled


class AntV5Physics:
    """Move copies of the ant, and return the contact forces that Gymnasium returns.

    Gymnasium reads contact forces and the place of the torso after the step from what MuJoCo has left behind, and that
    is of the last of the four looks that a Runge-Kutta step takes, not of the state it arrives at; the two differ where
    a foot touches down or leaves. `mujoco.rollout` returns nothing of that look, so here each copy is stepped by
    `mj_step`, which runs outside of Python's lock, on as many threads. What is returned equals
    Gymnasium's bit for bit, but that the solver starts from zero at each action; see `fastadapt.rl.physics`.

    A state has one number more, the place of the torso along x that was left behind.

    Args:
        threads: 1 runs in the calling thread.
    """

    body = ANT_V5

    def __init__(self, threads: int) -> None:
        mujoco = installed()
        self.model = self.body.model()
        self.rooms = [mujoco.MjData(self.model) for _ in range(threads)]
        self.workers = ThreadPoolExecutor(threads) if threads > 1 else None
        self.turn = threading.Lock()

    def start(self, seeds: list[int]) -> np.ndarray:
        """Return states `[n, 31]` at the start."""
        states = self.body.start(self.model, seeds)
        return np.concatenate([states, states[:, 1:2]], 1)

    def advance(self, states: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the states after one action, which of them are physics, and what is told of them.

        Args:
            states: `[n, 31]`.
            controls: `[n, 8]` in [-1, 1].

        Returns:
            The states `[n, 31]`; `[n]` bool, where it is false, the state is the one before; and `[n, 79]`, the
            velocity along x and `cfrc_ext` of the 13 parts.
        """
        after, told = states.copy(), np.zeros((len(states), 79))
        share = -(-len(states) // len(self.rooms))
        with self.turn, quiet():
            cuts = [slice(number * share, (number + 1) * share) for number in range(len(self.rooms))]
            work = [(room, after[cut], controls[cut], told[cut]) for room, cut in zip(self.rooms, cuts, strict=True)]
            if self.workers is None:
                self._run(*work[0])
            else:
                list(self.workers.map(lambda portion: self._run(*portion), work))
        after, sound = settled(states, after, self.body)
        velocity = (after[:, -1] - states[:, -1]) / self.body.seconds
        told[:, 0] = velocity
        return after, sound, np.where(sound[:, None], told, 0.0)

    def _run(self, room: Any, states: np.ndarray, controls: np.ndarray, told: np.ndarray) -> None:
        """Advance some of the copies in place, one after another, in one room."""
        mujoco = installed()
        kind, model = mujoco.mjtState.mjSTATE_FULLPHYSICS, self.model
        for state, control, forces in zip(states, controls, told, strict=True):
            mujoco.mj_setState(model, room, state[:-1], kind)
            room.qacc_warmstart[:] = 0
            room.ctrl[:] = control
            mujoco.mj_step(model, room, nstep=self.body.frames)
            mujoco.mj_rnePostConstraint(model, room)
            mujoco.mj_getState(model, room, state[:-1], kind)
            state[-1] = room.xpos[1, 0]
            forces[1:] = room.cfrc_ext[1:].ravel()
