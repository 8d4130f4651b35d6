"""What every method that has no steps reaches on Omniglot in minutes of one thread, beside its published number.

    python benchmarks/budgeted.py                                    # writes the table from the committed results
    python benchmarks/budgeted.py --run --data DIR                   # first trains what is missing, one after another
    python benchmarks/budgeted.py --run --runs matching snail --data DIR

Each is `fastadapt train PRESET --training.minutes M`, testing included, under the preset's own protocol; what a
command changes of its preset stands in the table. Runs lie below `runs/budgeted`, where one that was stopped or killed
is gone on with; the results go to `benchmarks/results/budgeted.json`, the table to docs/choose.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastadapt.cli import main as fastadapt
from fastadapt.compare.by_instance import by_instance
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.run_files import load_run

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "budgeted.json"
PAGE = ROOT / "docs" / "choose.md"
BEGIN, END = "<!-- budgeted -->", "<!-- /budgeted -->"


@dataclass(frozen=True)
class Run:
    """Hold one training: a preset, its minutes, and what differs from the preset."""

    preset: str
    minutes: float
    options: tuple[str, ...] = ()


RUNS: dict[str, Run] = {
    "protonet": Run("protonet-omniglot-5w1s", 20),
    "matching": Run(
        "matching-omniglot-5w1s",
        16,
        ("--method.scale", "10", "--data.train-ways", "20", "--data.train-queries", "5"),
    ),
    "siamese": Run("siamese-omniglot-5w1s", 25),
    "relation": Run("relation-omniglot-5w1s", 20),
    "dsn": Run("dsn-omniglot-5w5s", 20),
    "snail": Run(
        "snail-omniglot-5w1s", 25, ("--training.lr", "1e-3", "--training.meta-batch", "4", "--data.train-queries", "5")
    ),
    "mann": Run("mann-omniglot-5w", 20),
    "statistician": Run(
        "statistician-omniglot-5w1s",
        20,
        ("--net.width", "16", "--method.width", "16", "--method.context", "128"),
    ),
}


def train(name: str, folder: Path, data: Path | None) -> dict[str, Any]:
    """Train and test, or go on with that, and return what came out."""
    run = RUNS[name]
    words = ["train", run.preset, "--run", str(folder / name), "--training.minutes", f"{run.minutes:g}", *run.options]
    words += ["--threads", "1", "--quiet", *(["--data", str(data)] if data else [])]
    if not (folder / name / "evaluation.json").is_file() and (code := fastadapt(words)):
        raise SystemExit(code)
    return found(name, folder)


def found(name: str, folder: Path) -> dict[str, Any]:
    """Return what a finished run says of itself."""
    run, evaluation = RUNS[name], json.loads((folder / name / "evaluation.json").read_text(encoding="utf-8"))
    last = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return {
        "run": name,
        "preset": run.preset,
        "minutes": run.minutes,
        "threads": 1,
        "options": list(run.options),
        "outer steps": json.loads(last)["step"],
        "weights of step": evaluation["step"],
        **(instances(folder / name) if run.preset.startswith("mann") else {}),
        "accuracy": evaluation["mean"][-1],
        "ci95": evaluation["ci95"][-1],
        "tasks": evaluation["protocol"]["tasks"],
        "transductive": evaluation["transductive"],
        "torch": torch.__version__,
    }


def instances(folder: Path) -> dict[str, Any]:
    """Return the accuracy on the first, second, ... sample of a class, which is what is published of these."""
    run = load_run(folder)
    data = run.config.data
    told = by_instance(run.learner, data.source("test", data.load(None)), run.config.protocol, meta_batch=25)
    return {"by instance": json.loads(told.to_json())}


def section() -> str:
    """Return the table between its marks."""
    rows = json.loads(RESULT.read_text(encoding="utf-8"))
    lines = [
        BEGIN,
        "| preset | minutes of one thread | outer steps, of the preset's | accuracy in percent | published |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: list(RUNS).index(row["run"])):
        whole = PRESETS[row["preset"]][1].training.steps
        changed = f", `{' '.join(row['options'])}`" if row["options"] else ""
        how = "transductive" if row["transductive"] else "not transductive"
        claimed = EXPERIMENTS[row["preset"]].claimed if row["preset"] in EXPERIMENTS else ""
        reached = f"{100 * row['accuracy']:.1f} ± {100 * row['ci95']:.1f}"
        if "by instance" in row:  # what is published of these, in place of accuracy with one shot
            each = zip(row["by instance"]["mean"], row["by instance"]["ci95"], strict=True)
            shown = [f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in each]
            reached = f"{', '.join(shown[i - 1] for i in (1, 2, 5, 10))} (instances 1, 2, 5, 10)"
        cells = (
            f"`{row['preset']}`{changed}",
            f"{row['minutes']:g}",
            f"{row['outer steps']:,}, {100 * row['outer steps'] / whole:.2g} %",
            f"{reached}, {row['tasks']:,} tasks, {how}",
            claimed.removesuffix(" %") or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def write() -> None:
    """Put the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + section() + after, encoding="utf-8")


def keep(rows: Sequence[dict[str, Any]]) -> None:
    """Put rows into the result file, in place of those of the same runs."""
    old = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else []
    new = {row["run"]: row for row in [*old, *rows]}
    RESULT.write_text(json.dumps([new[name] for name in RUNS if name in new], indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line, train if asked, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="store_true", help="train what is missing before the page is written")
    parser.add_argument("--runs", nargs="+", choices=tuple(RUNS), default=list(RUNS), help="which; default all")
    parser.add_argument("--folder", type=Path, default=Path("runs/budgeted"), help="folder of the runs")
    parser.add_argument("--data", type=Path, help="folder of the data sets; default FASTADAPT_DATA")
    options = parser.parse_args()
    if options.run:
        for name in options.runs:
            keep([train(name, options.folder, options.data)])
    write()


if __name__ == "__main__":
    main()
