"""The bodies that MuJoCo moves: what describes each, and what is set where it differs from the file.

The files are Gymnasium's. They are read from its package at run time, and none of its classes is imported.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from fastadapt.errors import DataError, MissingExtraError

SENSED = ("force", "torque", "pos")
"""What a contact sensor says of the contacts of one body, 3 numbers each."""
LIMIT = 1e6
"""Beyond this many metres, radians or their rates a second, what is computed is no physics any more."""


@dataclass(frozen=True)
class Body:
    """Describe a body, how it starts, and how time is divided.

    The gears of its motors are in the file, so that a control is in [-1, 1] in every one.

    Args:
        asset: its file in Gymnasium's package.
        check: what `fingerprint` must give of that file.
        timestep: seconds between two looks of the solver.
        frames: time steps during one action.
        noise: how a start differs from the pose: normal, or uniform in the positions, as Gymnasium has it.
        spread: the scale of that noise of positions, and of velocities.
        pose: the positions at the start, before the noise; `None` takes those of the file.
        solimp: impedance of all contacts, `None` for that of the file.
    """

    asset: str
    check: float
    timestep: float
    frames: int
    noise: Literal["normal", "uniform"]
    spread: tuple[float, float]
    pose: tuple[float, ...] | None = None
    solimp: tuple[float, float, float] | None = None

    @property
    def seconds(self) -> float:
        """How long an action lasts."""
        return self.timestep * self.frames

    def model(self, sensed: Literal["nothing", "centre", "contacts"] = "nothing") -> Any:
        """Return the compiled `mujoco.MjModel`.

        Args:
            sensed: sensors to add. `"centre"` has the centre of mass of the whole body and its velocity, 3 numbers
                each; `"contacts"` has those, then the three axes of the torso, then `SENSED` of each part of the body.

        Raises:
            MissingExtraError: if mujoco or Gymnasium is not installed.
            DataError: if the installed Gymnasium has another body under that name.
        """
        mujoco = installed()
        spec = mujoco.MjSpec.from_file(str(_folder() / self.asset))
        mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1  # deprecated there, and set below
        for number, part in enumerate(spec.bodies):
            part.name = part.name or f"part-{number}"
        if sensed != "nothing":
            _add_sensors(mujoco, spec, contacts=sensed == "contacts")
        with quiet():
            model = spec.compile()
        if mass > 0:
            mujoco.mj_setTotalmass(model, mass)
            mujoco.mj_setConst(model, mujoco.MjData(model))
        if abs(fingerprint(model) - self.check) > 1e-6 * abs(self.check):
            raise DataError(
                f"{self.asset} of the installed Gymnasium describes another body than the one that these environments "
                f"are about ({fingerprint(model):.9g}, not {self.check:.9g}); install the version that fastadapt was "
                "made with, see constraints.txt"
            )
        if self.solimp is not None:
            model.geom_solimp[:, :3] = self.solimp
        model.opt.timestep = self.timestep
        # what is not finite is to be seen: MuJoCo would put the body back to its start, and go on
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        return model

    def start(self, model: Any, seeds: Sequence[int]) -> np.ndarray:
        """Return states `[n, 1 + nq + nv]`: time, positions, velocities; one drawn from each seed."""
        states = np.zeros((len(seeds), 1 + model.nq + model.nv))
        for state, seed in zip(states, seeds, strict=True):
            rng = np.random.default_rng(seed)
            if self.noise == "normal":
                where = rng.normal(0.0, self.spread[0], model.nq)
            else:
                where = rng.uniform(-self.spread[0], self.spread[0], model.nq)
            state[1 : 1 + model.nq] = (model.qpos0 if self.pose is None else self.pose) + where
            state[1 + model.nq :] = self.spread[1] * rng.standard_normal(model.nv)
        return states


def fingerprint(model: Any) -> float:
    """Return one number that changes when a body does: masses, joints, shapes, motors and contacts of a file."""
    fields = ("body_mass", "body_inertia", "body_pos", "jnt_range", "jnt_stiffness", "dof_damping", "dof_armature")
    fields = (*fields, "geom_size", "geom_pos", "geom_friction", "geom_solref", "geom_solimp", "actuator_gear", "qpos0")
    numbers = np.concatenate([getattr(model, field).ravel() for field in fields])
    return float(np.sin(1.0 + np.arange(len(numbers))) @ numbers)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MuJoCo from writing a log into the working folder: what it warns of is looked for in the numbers."""
    mujoco = installed()
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


@cache
def installed() -> ModuleType:
    """Return mujoco.

    Raises:
        MissingExtraError: if it is not installed, or Gymnasium is not.
    """
    missing = [name for name in ("mujoco", "gymnasium") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"half-cheetah and ant need {' and '.join(missing)}: pip install 'fastadapt[rl]'")
    import mujoco
    import mujoco.rollout

    return mujoco


def _folder() -> Path:
    found = importlib.util.find_spec("gymnasium")
    assert found is not None and found.submodule_search_locations  # see `installed`
    return Path(next(iter(found.submodule_search_locations))) / "envs" / "mujoco" / "assets"


def _add_sensors(mujoco: Any, spec: Any, *, contacts: bool) -> None:
    kinds, objects, data = mujoco.mjtSensor, mujoco.mjtObj, mujoco.mjtConDataField
    torso = {"objtype": objects.mjOBJ_BODY, "objname": "torso"}
    spec.add_sensor(name="centre", type=kinds.mjSENS_SUBTREECOM, **torso)
    spec.add_sensor(name="its velocity", type=kinds.mjSENS_SUBTREELINVEL, **torso)
    if not contacts:
        return
    for axis in "XYZ":
        kind = getattr(kinds, f"mjSENS_FRAME{axis}AXIS")
        spec.add_sensor(name=f"axis {axis}", type=kind, objtype=objects.mjOBJ_XBODY, objname="torso")
    bits = sum(1 << getattr(data, f"mjCONDATA_{name.upper()}").value for name in SENSED)
    net = 3  # sum over the contacts of a part, in the frame of the world
    for part in spec.bodies[1:]:
        spec.add_sensor(
            name=f"contacts {part.name}",
            type=kinds.mjSENS_CONTACT,
            objtype=objects.mjOBJ_BODY,
            objname=part.name,
            intprm=[bits, net, 1],
        )


HALF_CHEETAH = Body("half_cheetah.xml", 128.246898, 0.01, 1, "normal", (0.01, 0.1))
"""rllab's: the file's own time step, one of them an action."""
HALF_CHEETAH_V5 = Body("half_cheetah.xml", 128.246898, 0.01, 5, "uniform", (0.1, 0.1))
"""Gymnasium's HalfCheetah-v5."""
ANT = Body(
    "ant.xml", -50.4193529, 0.02, 1, "normal", (0.01, 0.1),
    pose=(0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1),
    solimp=(0.8, 0.8, 0.01),
)  # fmt: skip
"""rllab's: its file has twice the time step, other contacts, and legs that stand on the ground."""
ANT_V5 = Body("ant.xml", -50.4193529, 0.01, 5, "uniform", (0.1, 0.1))
"""Gymnasium's Ant-v5."""
