"""Environment steps a second of half-cheetah and ant, against Gymnasium's vector environments, and where the time goes.

    python benchmarks/physics.py            # ten minutes; writes the result file and the tables of docs/environments.md
    python benchmarks/physics.py --short    # two minutes, with two short rounds

Random actions, as a policy's at the start of training. Ours: 20 environments side by side, as many as Gymnasium has,
and 800, as in training (40 tasks of 20 episodes). The contenders take turns; a row has the median of the rounds. Where
others use the machine, steps a second of the wall say little, so there are steps a second of processor time of this
process as well; of environments in processes of their own there are none.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.rl.bodies import quiet
from fastadapt.rl.locomotion import FAMILIES, Locomotion
from fastadapt.rl.physics import Physics

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "physics.json"
PAGE = ROOT / "docs" / "environments.md"
BEGIN, END = "<!-- physics -->", "<!-- /physics -->"
FEW, MANY = 20, 800
# ours, Gymnasium's, and its frame skip: of the same time step (ant-v0 takes one step of 0.02 s where it takes two)
PAIRS = (
    ("half-cheetah-velocity-v0", "HalfCheetah-v5", 1),
    ("half-cheetah-velocity-v5", "HalfCheetah-v5", 5),
    ("ant-velocity-v0", "Ant-v5", 2),
    ("ant-velocity-v5", "Ant-v5", 5),
)


@dataclass(frozen=True)
class Contender:
    """Name something that steps environments, and how many it steps at once."""

    ours: str
    what: str
    count: int
    step: Callable[[], Any]
    close: Callable[[], Any] = lambda: None
    wall: tuple[float, ...] = ()
    processor: tuple[float, ...] = ()

    def timed(self, seconds: float) -> "Contender":
        """Return it with one round more, of about so many seconds."""
        steps, wall, processor = 0, time.perf_counter(), time.process_time()
        while steps == 0 or time.perf_counter() - wall < seconds:
            self.step()
            steps += self.count
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        return replace(self, wall=(*self.wall, steps / wall), processor=(*self.processor, steps / processor))

    def row(self) -> dict[str, Any]:
        """Return what is written of it."""
        return {
            "physics": self.ours,
            "what": self.what,
            "environments": self.count,
            "steps a second": round(statistics.median(self.wall)),
            "fastest": round(max(self.wall)),
            **({} if "Async" in self.what else {"steps a processor second": round(statistics.median(self.processor))}),
        }


def ours(name: str, threads: int, count: int) -> Contender:
    """Return our environments on so many threads; they start anew when an episode is over."""
    made = FAMILIES[name]()
    family = Locomotion(name, type(made.body), made.goal, threads)
    rng, state = np.random.default_rng(0), {"at": 0, "episodes": None}
    tasks = family.draw_tasks(count, rng)

    def step() -> None:
        if state["at"] % family.horizon == 0:
            state["episodes"] = family.start(tasks, range(count))
        state["at"] += 1
        state["episodes"].step(torch.from_numpy(rng.uniform(-1, 1, (count, family.action_size))))

    return Contender(name, f"fastadapt, {threads} thread{'s' * (threads > 1)}", count, step)


def theirs(name: str, env: str, frame_skip: int, kind: str) -> Contender:
    """Return Gymnasium's vector environments: in this process one after another, or one process each."""
    vector = {"sync": gymnasium.vector.SyncVectorEnv, "async": gymnasium.vector.AsyncVectorEnv}[kind]
    envs = vector([partial(gymnasium.make, env, frame_skip=frame_skip, max_episode_steps=200) for _ in range(FEW)])
    envs.reset(seed=0)
    rng, size = np.random.default_rng(0), envs.single_action_space.shape[0]
    what = f"gymnasium, {vector.__name__}"
    return Contender(name, what, FEW, lambda: envs.step(rng.uniform(-1, 1, (FEW, size)).astype(np.float32)), envs.close)


def parts(name: str, count: int, steps: int) -> dict[str, Any]:
    """Return microseconds of processor time that a step of one environment takes, by what takes them."""
    made = FAMILIES[name]()
    family = Locomotion(name, type(made.body), made.goal, 1)
    physics: Any = family.body.physics
    took = {"physics": 0.0, "sensors": 0.0, "all": 0.0}

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.process_time()
            found = function(*arguments)
            took[part] += time.process_time() - began
            return found

        return call

    episodes = family.start(family.draw_tasks(count, np.random.default_rng(0)), range(count))
    physics.advance = watched("physics", physics.advance)
    if isinstance(physics, Physics):
        physics.sense = watched("sensors", physics.sense)
    act = np.random.default_rng(0)
    step = watched("all", episodes.step)
    for _ in range(steps):
        step(torch.from_numpy(act.uniform(-1, 1, (count, family.action_size))))
    micro = {part: round(1e6 * seconds / count / steps, 2) for part, seconds in took.items()}
    rest = round(micro["all"] - micro["physics"] - micro["sensors"], 2)
    return {"physics": name, "the step": micro["physics"], "sensors": micro["sensors"], "rest": rest}


def table(content: dict[str, Any]) -> str:
    """Return the tables of the documentation."""
    lines = [f"`{content['command']}`, {content['machine']}, load before {content['load before']}:", ""]
    lines += ["| physics | what | environments | steps a second | fastest round | steps a processor second |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in content["rows"]:
        processor = f"{row['steps a processor second']:,}" if "steps a processor second" in row else ""
        lines.append(
            f"| `{row['physics']}` | {row['what']} | {row['environments']} | {row['steps a second']:,} | "
            f"{row['fastest']:,} | {processor} |"
        )
    lines += ["", "Microseconds of processor time for one step of one environment, on one thread:", ""]
    lines += ["| physics | MuJoCo's step | sensors | rest |", "|---|---|---|---|"]
    for row in content["parts"]:
        lines.append(f"| `{row['physics']}` | {row['the step']} | {row['sensors']} | {row['rest']} |")
    return "\n".join([BEGIN, *lines, END])


def measured(rounds: int, seconds: float) -> dict[str, Any]:
    """Return everything that is written."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    for name, env, frame_skip in PAIRS:
        contenders = [ours(name, threads, count) for count in (FEW, MANY) for threads in (1, 2)]
        contenders += [theirs(name, env, frame_skip, kind) for kind in ("sync", "async")]
        for contender in contenders:
            contender.step()  # warms up
        for _ in range(rounds):
            contenders = [contender.timed(seconds) for contender in contenders]
        for contender in contenders:
            contender.close()
            rows.append(contender.row())
            print(rows[-1], flush=True)
    shares = [parts(name, 200, 20) for name, *_ in PAIRS]
    for share in shares:
        print(share, flush=True)
    return {
        "command": "python benchmarks/physics.py",
        "versions": {
            "fastadapt": fa.__version__,
            "torch": torch.__version__,
            "mujoco": mujoco.__version__,
            "gymnasium": gymnasium.__version__,
        },
        "machine": f"{platform.machine()}, {cores} cores to run on",
        "load before": round(load, 1),
        "rounds": rounds,
        "rows": rows,
        "parts": shares,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="two short rounds")
    short = parser.parse_args().short
    with quiet():  # of a word in Gymnasium's file that is deprecated
        content = measured(2, 0.5) if short else measured(7, 2.0)
    content["command"] += " --short" if short else ""
    write_text(OUT, json.dumps(content, indent=1) + "\n")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + table(content) + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
