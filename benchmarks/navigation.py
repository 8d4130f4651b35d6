"""MAML on 2-D navigation, as published, beside pretraining, random initialisation and the oracle.

    python benchmarks/navigation.py train --seeds 0 1 2 --steps 100    # goes on where it was stopped
    python benchmarks/navigation.py measure                            # writes the result file, the picture, the page

Protocol: 40 goals of the stream (1, "test"), the same for every row; each is adapted to from the trained policy by
vanilla policy gradient, 40 episodes an update, step size 0.5 for the first update and 0.25 for those after it. The
return of row j is that of the very episodes that update j+1 learns from.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastadapt.evaluation import Protocol, confidence, evaluate
from fastadapt.heap import hold
from fastadapt.report.policies import draw_returns
from fastadapt.rl.environments import family
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.plain import plain_step
from fastadapt.rl.policies import policy_for
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO
from fastadapt.rl.waning import Waning
from fastadapt.rules.rules import SGD, Rule
from fastadapt.runs.run_files import load_run
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

RESULT = Path("benchmarks/results/navigation.json")
PICTURE = Path("docs/images/navigation.png")
PAGE = Path("docs/reinforcement.md")
BEGIN, END = "<!-- navigation -->", "<!-- /navigation -->"
GOALS, EPISODES, UPDATES = 40, 40, 4
PUBLISHED = {  # raw means over 40 goals of the authors' public result files, after 0..4 updates
    "maml": [-40.41, -11.68, -3.33, -3.23, -3.35],
    "pretrained": [-40.81, -19.73, -11.72, -8.47, -7.49],
    "random": [-82.66, -57.96, -53.84, -46.81, -42.91],
    "oracle": [-2.29],
}
BY_TRPO = "pretrained by TRPO"
"""Ten episodes a step and a trust region, as the public script of the oracle has them; not published."""
METHODS = ("maml", "pretrained", BY_TRPO, "random", "oracle")
NAVIGATION = family("navigation-v0")
HOW = {  # inner steps, tasks of an outer step, where they come from, the outer step
    "maml": (1, 20, Environments(NAVIGATION, episodes=20), TRPO()),
    "pretrained": (0, 20, Environments(NAVIGATION, episodes=20), plain_step),  # Adam, see presets_policies
    "oracle": (0, 100, Environments(NAVIGATION, episodes=1, pooled=True, told=True), TRPO()),
    BY_TRPO: (0, 10, Environments(NAVIGATION, episodes=1, pooled=True), TRPO()),
}


def learner_of(method: str, seed: int, rule: Rule) -> MetaPolicy:
    """Return a fresh learner; the rule is that of its updates."""
    torch.manual_seed(seed)
    steps, _, source, _ = HOW.get(method, HOW["maml"])
    policy = policy_for(NAVIGATION, told=2 if source.told else 0)
    return MetaPolicy(policy, rule=rule, steps=steps)


def train(method: str, seed: int, steps: int, runs: Path) -> None:
    """Train, or go on, until so many outer steps are done."""
    _, tasks, source, outer_step = HOW[method]
    training = Training(steps=steps, meta_batch=tasks, seed=seed, checkpoint_every=5, log_every=1, keep=1)
    began = time.process_time()
    folder = runs / f"{method}-{seed}"
    trained = meta_train(learner_of(method, seed, SGD(0.5)), source, training, folder=folder, outer_step=outer_step)
    if trained.stopped in EXIT_CODES:
        sys.exit(EXIT_CODES[trained.stopped])
    print(f"{method}, seed {seed}: step {steps}, {time.process_time() - began:.0f} s of CPU", flush=True)


def measure(methods: list[str], seeds: list[int], runs: Path) -> None:
    """Measure what is trained on the same goals, and write result and picture; rows without runs stay as they were."""
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.is_file() else {}
    rows |= {method: row for method in methods if (row := _row(method, seeds, runs))["seeds"]}
    rows = {method: rows[method] for method in METHODS if method in rows}
    facts = {"goals": GOALS, "episodes an update": EPISODES, "step sizes": [0.5, 0.25], "stream": [1, "test"]}
    record = {"protocol": facts, "published": PUBLISHED, "rows": rows, "torch": torch.__version__}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw_returns(rows, PICTURE, tasks=GOALS, what="2-D navigation")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    PAGE.write_text(before + section() + after, encoding="utf-8")
    for method, row in rows.items():
        told = "  ".join(f"{m:.2f} ± {h:.2f}" for m, h in zip(row["mean"], row["ci95"], strict=True))
        print(f"{method:<11} {told}   published {PUBLISHED.get(method, '')}")


def section() -> str:
    """Return the part of the page that the result file speaks of."""
    content = json.loads(RESULT.read_text(encoding="utf-8"))
    rows, last = content["rows"], UPDATES + 1
    lines = [
        BEGIN,
        "| return after | " + " | ".join(f"{j} updates" if j != 1 else "1 update" for j in range(last)) + " |",
    ]
    lines.append("|---" * (last + 1) + "|")
    for method, row in rows.items():
        done = sorted({*row["outer steps"]})
        trained = f", {' to '.join(map(str, done))} outer steps" if done[-1] else ""
        seeds = f"{len(row['seeds'])} seed{'s' * (len(row['seeds']) != 1)}"
        ours = [f"{m:.1f} ± {h:.1f}" for m, h in zip(row["mean"], row["ci95"], strict=True)]
        lines.append(f"| {method}{trained}, {seeds} | " + " | ".join([*ours, *["–"] * (last - len(ours))]) + " |")
        theirs = [f"{value:.1f}" for value in content["published"].get(method, [])]
        if theirs:
            lines.append(f"| {method}, published | " + " | ".join([*theirs, *["–"] * (last - len(theirs))]) + " |")
    spread = "; ".join(
        f"{method} {', '.join(f'{values[min(1, len(values) - 1)]:.1f}' for values in row['of each seed'])}"
        for method, row in rows.items()
        if len(row["seeds"]) > 1
    )
    lines += [
        "",
        f"Means over {GOALS} goals, the same for every row, with 95 % intervals over the goals; a goal counts by its "
        f"mean over the seeds. Published: raw means of the authors' result files, after 100 outer steps, one seed. "
        f"After one update, seed by seed: {spread}; every row has the published step size, and where a return falls at "
        "the first update that step overshoots. "
        "`python benchmarks/navigation.py train --steps N` goes on with the trainings, `measure` writes these lines.",
        "",
        "![Return against updates](images/navigation.png)",
        END,
    ]
    return "\n".join(lines)


def _row(method: str, seeds: list[int], runs: Path) -> dict[str, Any]:
    """Return the returns of a method: of every seed, and the mean over seeds with its interval over goals."""
    told, steps = method == "oracle", 0 if method == "oracle" else UPDATES
    source = Environments(NAVIGATION, episodes=EPISODES, told=told)
    tables, trained = [], []
    for seed in seeds:
        learner, done = learner_of(method, seed, Waning(0.5, later=0.5)), 0
        if method in HOW:
            if not (runs / f"{method}-{seed}").is_dir():
                continue
            loaded = load_run(runs / f"{method}-{seed}", model=learner)
            done = loaded.step
        result = evaluate(learner, source, Protocol("navigation-v1", tasks=GOALS, steps=steps), meta_batch=GOALS)
        tables.append(np.asarray(result.per_task))
        trained.append(done)
    if not tables:
        return {"seeds": []}
    pooled = np.mean(tables, axis=0)
    pairs = [confidence(column) for column in pooled.T]
    return {
        "seeds": seeds[: len(tables)],
        "outer steps": trained,
        "after": list(range(steps + 1)),
        "mean": [round(mean, 4) for mean, _ in pairs],
        "ci95": [round(half, 4) for _, half in pairs],
        "of each seed": [[round(float(v), 4) for v in table.mean(0)] for table in tables],
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--runs", type=Path, default=Path("runs/navigation"))
    asked = parser.parse_args()
    hold()
    torch.set_num_threads(1)
    if asked.what == "measure":
        measure(asked.methods, asked.seeds, asked.runs)
        return
    for method in (name for name in asked.methods if name in HOW):
        for seed in asked.seeds:
            train(method, seed, asked.steps, asked.runs)


if __name__ == "__main__":
    main()
