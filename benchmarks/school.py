"""Exam scores of new schools from 5 and 10 labelled pupils: MAML and Reptile beside the baselines.

    python benchmarks/school.py --data DIR/school.csv            # hours on a busy core: see the seconds in the result
    python benchmarks/school.py --docs                           # write the table of docs/own_data.md again

The data are those of the Inner London Education Authority: 15,362 pupils of 139 schools. In each of several splits 30
schools are held out, 21 validate and 88 train; a held-out school is taken five times with other labelled pupils.
Everything that is chosen is chosen on the validation schools. Over the splits, a school counts once: with the mean of
the splits in which it was held out.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.commands.train_table import MOST_STEPS, TableSettings, TableTraining, configure, prepare
from fastadapt.compare.comparison import compare, plus_minus, tune_adaptation, verdict
from fastadapt.compare.held_out import Judged, explained_variance, interval
from fastadapt.methods.gradient import GradientLearner
from fastadapt.results.evaluation_json import json_values
from fastadapt.training.checkpoint import best_checkpoint

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "school.json"
PAGE = ROOT / "docs" / "own_data.md"
BEGIN, END = "<!-- school -->", "<!-- /school -->"
HELD_OUT = 30


def train(
    method: str, options: argparse.Namespace, split_seed: int
) -> tuple[GradientLearner, Any, Any, dict[str, Any]]:
    """Train one learner as the command does, and return it with the table and what was chosen."""
    steps = options.steps if method == "maml" else options.reptile_steps
    settings = TableSettings(
        data=options.data,
        task_column="school",
        target="score",
        regression=True,
        shots=(5, 10),
        method=method,  # type: ignore[arg-type]
        test_tasks=HELD_OUT,
        split_seed=split_seed,
        training=TableTraining(steps=steps, seed=split_seed),
    )
    prepared = prepare(settings)
    config = configure(settings, prepared)
    torch.manual_seed(config.training.seed)
    learner = config.build()
    assert isinstance(learner, GradientLearner)
    data, table = prepared.data, prepared.loaded
    began = time.monotonic()
    folder = options.runs / f"{method}-{split_seed}"
    fa.meta_train(
        learner,
        data.source("train", table),
        config.training,
        validation=data.source("val", table),
        protocol=config.validation,
        folder=folder,
        quiet=True,
    )
    best = best_checkpoint(folder / "checkpoints")
    assert best is not None
    learner.load_state_dict(best.learner)
    learner.eval()
    chosen = tune_adaptation(learner, table, data, rate=settings.inner_lr, most_steps=MOST_STEPS)
    learner.rule, learner.test_steps = fa.SGD(chosen.rate), chosen.steps
    seconds = round(time.monotonic() - began, 1)
    return learner, table, data, {**dataclasses.asdict(chosen), "weights of step": best.step, "seconds": seconds}


def one_split(options: argparse.Namespace, split_seed: int) -> dict[str, Any]:
    """Return everything that was measured with one split."""
    maml, table, data, of_maml = train("maml", options, split_seed)
    reptile, _, _, of_reptile = train("reptile", options, split_seed)
    comparison = compare({"MAML": maml, "Reptile": reptile}, table, data, refit=not options.no_refit)
    return {**comparison, "chosen": {"MAML": of_maml, "Reptile": of_reptile}}


def together(splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each number of labelled pupils, every method over all splits: a school counts once."""
    results = []
    for place, first in enumerate(splits[0]["results"]):
        methods: dict[str, Judged] = {}
        for name in [row["method"] for row in first["methods"]]:
            methods[name] = over_schools(splits, place, name)
        learned = [row["method"] for row in first["methods"] if row["meta-learned"]]
        best = min((n for n in methods if n not in learned), key=lambda n: methods[n].per_task.mean())
        rows = []
        for name, judged in methods.items():
            (mean, half), (ev, ev_half) = interval(judged.per_task), explained_variance(judged)
            gain, gain_half = interval(methods[best].per_task - judged.per_task)
            rows.append(
                {
                    "method": name,
                    "meta-learned": name in learned,
                    "mean": mean,
                    "ci95": half,
                    "explained variance": ev,
                    "explained variance ci95": ev_half,
                    "gain over the best baseline": gain,
                    "gain ci95": gain_half,
                    "verdict": verdict(gain, gain_half),
                }
            )
        count = len(methods[best].per_task)
        results.append({"shots": first["shots"], "schools": count, "best baseline": best, "methods": rows})
    return results


def over_schools(splits: list[dict[str, Any]], place: int, name: str) -> Judged:
    """Return what a method achieved on each school that was ever held out, the mean over those splits."""
    found: dict[str, list[list[float]]] = {}
    for split in splits:
        [row] = [r for r in split["results"][place]["methods"] if r["method"] == name]
        for school, *values in zip(split["held out"], row["per task"], row["squares"], row["spread"], strict=True):
            found.setdefault(school, []).append(values)
    means = np.array([np.mean(found[school], axis=0) for school in sorted(found)])
    return Judged("mse", means[:, 0], means[:, 1], means[:, 2])


def section() -> str:
    """Return the table of the documentation, from the committed file; before it was measured, the command."""
    if not OUT.is_file():
        return f"{BEGIN}\nNot measured yet: `python benchmarks/school.py --data DIR/school.csv`.\n{END}"
    content = json.loads(OUT.read_text(encoding="utf-8"))
    few, many = content["together"]
    splits = len(content["splits"])
    lines = [
        BEGIN,
        f"Mean squared error and explained variance on {few['schools']} schools, held out in {splits} "
        f"split{'s' * (splits > 1)} of {HELD_OUT}, from {few['shots']} and {many['shots']} labelled pupils; intervals "
        "are 95 % of Student's t over schools (a jackknife for the explained variance), differences are paired. "
        f"`{content['command']} --data DIR/school.csv`:",
        "",
        f"| method | mse, {few['shots']} pupils | explained (%) | mse, {many['shots']} pupils | explained (%) |",
        "|:---|---:|---:|---:|---:|",
    ]
    other = {row["method"]: row for row in many["methods"]}
    for row in sorted(few["methods"], key=lambda row: other[row["method"]]["mean"]):
        cells = []
        for r in (row, other[row["method"]]):
            cells.append(plus_minus(r["mean"], r["ci95"]))
            cells.append(plus_minus(100 * r["explained variance"], 100 * r["explained variance ci95"]))
        name = f"**{row['method']}**" if row["meta-learned"] else row["method"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for result in (few, many):
        for row in (row for row in result["methods"] if row["meta-learned"]):
            gain = row["gain over the best baseline"]
            told = f"{'lower' if gain > 0 else 'higher'} by {plus_minus(abs(gain), row['gain ci95'])}"
            lines.append(
                f"- {row['method']}, {result['shots']} pupils, against {result['best baseline']}: mean squared error "
                f"{told}: {row['verdict']}."
            )
    return "\n".join([*lines, END])


def write_docs() -> None:
    """Put the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + section() + after, encoding="utf-8")


def main() -> None:
    """Read the command line, measure, and write file and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="school.csv, with the columns school and score")
    parser.add_argument("--splits", type=int, default=5, help="split seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="outer steps of MAML (default: %(default)s)")
    parser.add_argument("--reptile-steps", type=int, default=6000, help="and of Reptile (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/school"), help="folder of the runs, which go on")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--no-refit", action="store_true", help="without the boosting that is fitted for every task")
    parser.add_argument("--docs", action="store_true", help="measure nothing, write the page from the file")
    options = parser.parse_args()
    if options.docs:
        return write_docs()
    torch.set_num_threads(1)
    began, splits = time.monotonic(), []
    told = f"python benchmarks/school.py --splits {options.splits} --steps {options.steps}"
    told += f" --reptile-steps {options.reptile_steps}{' --no-refit' if options.no_refit else ''}"
    for seed in range(options.splits):
        splits.append(one_split(options, seed))
        print(f"split {seed} done after {time.monotonic() - began:.0f} s", file=sys.stderr)
        content = {
            "command": told,
            "versions": {"fastadapt": fa.__version__, "torch": torch.__version__, "numpy": np.__version__},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
            "seconds": round(time.monotonic() - began, 1),
            "together": together(splits),
            "splits": splits,
        }
        write_text(options.out, json.dumps(json_values(rounded(content)), indent=1) + "\n")
    return None


def rounded(value: Any) -> Any:
    """Return the same with seven significant digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
