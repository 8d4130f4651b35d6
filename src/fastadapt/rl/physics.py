"""Many copies of one body are moved at once: by `mujoco.rollout` on threads.

A state is `[time, positions, velocities]`, float64. Each call starts the solver of the contacts from zero, so that the
next state depends on state and control alone: not on what ran before, beside it, or on which thread.
"""

import threading
from typing import Any, Literal

import numpy as np

from fastadapt.rl.bodies import LIMIT, Body, installed, quiet


class Physics:
    """Move copies of a body, and look at what the state does not hold.

    `mujoco.rollout` returns states, and what sensors say, but these speak of the state before a step. What is asked for
    is that of the state after it, under the control that led there. It is had by one more step from there whose result
    is thrown away, of a copy of the body that has sensors and computes no more than they need.

    Both are exact: centre of mass and its velocity are MuJoCo's own. `cfrc_ext`, the force and torque of the contacts
    on each part about the centre of mass of the whole body, is no sensor; it is computed from the net force `f`, torque
    `t` and their place `p` that contact sensors give as `(t + (p - centre) x f, f)`, which is its definition here,
    where nothing but contacts acts from outside (equal to 1e-12 to MuJoCo's, which divides the sum otherwise).

    Args:
        body: the body.
        sensed: what is looked at, see `Body.model`.
        threads: 1 runs in the calling thread.
    """

    def __init__(self, body: Body, sensed: Literal["nothing", "centre", "contacts"], threads: int) -> None:
        mujoco = installed()
        self.body = body
        self.model = body.model()
        self.movers = Movers(self.model, threads)
        if sensed == "nothing":
            return
        watched = body.model(sensed)
        watched.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER  # the cheapest: its result is thrown away
        if sensed == "centre":  # which needs no forces
            for name in ("CONSTRAINT", "CONTACT", "ACTUATION", "EULERDAMP"):
                watched.opt.disableflags |= int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{name}"))
        self.watchers = Movers(watched, threads)

    def start(self, seeds: list[int]) -> np.ndarray:
        """Return states `[n, s]` at the start, one drawn from each seed."""
        return self.body.start(self.model, seeds)

    def advance(self, states: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the states after one action, and which of them are physics.

        Args:
            states: `[n, s]`.
            controls: `[n, u]` in [-1, 1].

        Returns:
            The states `[n, s]`, and `[n]` bool; where it is false, the state is the one before.
        """
        after, _ = self.movers.run(states, controls, self.body.frames)
        return settled(states, after, self.body)

    def sense(self, states: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """Return what the sensors say `[n, k]` of states under controls."""
        _, told = self.watchers.run(states, controls, 1)
        return told


def settled(before: np.ndarray, after: np.ndarray, body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Return the states, each that is no physics replaced by the one before, and which are physics.

    MuJoCo stops in the middle of an action where it warns, which shows in the time.
    """
    whole = np.abs(after[:, 0] - before[:, 0] - body.frames * body.timestep) < body.timestep / 2
    sound = whole & (np.abs(after[:, 1:]) < LIMIT).all(1)  # false for NaN
    return np.where(sound[:, None], after, before), sound


class Movers:
    """Run one model on threads, which share the copies in small portions.

    Args:
        model: a `mujoco.MjModel`.
        threads: 1 runs in the calling thread.
    """

    def __init__(self, model: Any, threads: int) -> None:
        mujoco = installed()
        self.model = model
        self.rooms = [mujoco.MjData(model) for _ in range(threads)]
        self.pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self.turn = threading.Lock()

    def run(self, states: np.ndarray, controls: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the states `[n, s]` after so many time steps, and what the sensors said in the last of them."""
        count = len(states)
        held = np.repeat(controls[:, None], frames, 1)
        after = np.empty((count, frames, states.shape[1]))
        told = np.empty((count, frames, self.model.nsensordata))
        with self.turn, quiet():
            # unchecked, it wants all of this as it is, and a third of the time is saved where few are moved
            self.pool.rollout(
                [self.model] * count,
                self.rooms,
                np.ascontiguousarray(states),
                held,
                nstep=frames,
                state=after,
                sensordata=told,
                skip_checks=True,
            )
        return after[:, -1], told[:, -1]
