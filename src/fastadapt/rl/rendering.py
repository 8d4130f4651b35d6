"""Frames of a body on its way, by MuJoCo's offscreen renderer, where the machine has what it needs.

It needs OpenGL without a screen: EGL, which a driver or Mesa brings, or OSMesa. Which of them works shows when it is
tried, a process can try only one, and a broken driver may take the process with it. So frames are made by a process of
their own, `python -m fastadapt.rl.rendering`.
"""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastadapt.rl.bodies import ANT, HALF_CHEETAH, Body, installed

_log = logging.getLogger("fastadapt")
_LOOKS = {body.asset: body for body in (ANT, HALF_CHEETAH)}
"""How a body looks is the same whatever its physics."""
LONGEST = 120
"""Seconds that a way of rendering may take."""


def frames(body: Body, states: np.ndarray, *, width: int = 240, height: int = 180) -> np.ndarray | None:
    """Return pictures of states, seen from a camera that goes along.

    Args:
        body: whose states they are.
        states: `[t, s]`: time, positions, and whatever follows.
        width: pixels.
        height: pixels.

    Returns:
        `[t, height, width, 3]`, uint8; `None` if nothing here renders without a screen, which is logged.

    Raises:
        MissingExtraError: if mujoco is not installed.
    """
    installed()
    told = []
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "states.npy", Path(folder) / "frames.npy"
        np.save(given, np.asarray(states))
        for way in ways():
            words = [body.asset, str(given), str(made), str(width), str(height)]
            error = _run(words, {"MUJOCO_GL": way} if way else {}, folder)
            if error is None:
                return np.load(made)
            told.append(f"{way or 'OpenGL'}: {error}")
    why = "; ".join(told)
    _log.info("nothing renders without a screen here (%s); install EGL or OSMesa, or say which with MUJOCO_GL", why)
    return None


def _run(words: Sequence[str], variables: dict[str, str], folder: str) -> str | None:
    """Render in a process of its own, and return why that failed, or `None`."""
    path = os.pathsep.join(part for part in sys.path if part)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastadapt.rl.rendering", *words],
            cwd=folder,  # MuJoCo writes its log where it runs
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST} s"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")


def ways() -> Sequence[str]:
    """Return the values of MUJOCO_GL to try: the user's own, or what needs no screen."""
    if own := os.environ.get("MUJOCO_GL"):
        return (own,)
    return ("egl", "osmesa") if sys.platform == "linux" else ("",)


def main(argv: Sequence[str]) -> None:
    """Read states, render them and write the frames."""
    asset, given, made, width, height = argv
    mujoco = installed()
    model = _LOOKS[asset].model()
    model.vis.quality.offsamples = model.vis.quality.shadowsize = 0  # without a GPU they take a second a frame
    model.mat_reflectance[:] = 0
    data, pictures = mujoco.MjData(model), []
    with mujoco.Renderer(model, int(height), int(width)) as renderer:
        for flag in ("SHADOW", "REFLECTION"):
            renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        for state in np.load(given):
            data.qpos[:] = state[1 : 1 + model.nq]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera="track")
            pictures.append(renderer.render().copy())
    np.save(made, np.stack(pictures))


if __name__ == "__main__":
    main(sys.argv[1:])
