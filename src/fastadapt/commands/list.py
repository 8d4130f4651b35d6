"""`fastadapt list`: the presets, the published runs, and the runs below a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fastadapt.evaluate import column_of
from fastadapt.published.experiment import Experiment
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.run_files import shipped_models
from fastadapt.training.checkpoint import newest_step


@dataclass(frozen=True)
class ListSettings:
    """Show what can be trained and what has been."""

    runs: Path = Path("runs")
    """Folder whose runs are shown."""
    json: bool = False
    """Print JSON."""


def found_runs(folder: Path) -> list[dict[str, object]]:
    """Return name, newest step and result of every run directly below `folder`."""
    runs: list[dict[str, object]] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (path / "config.json").is_file():
            continue
        step = newest_step(path / "checkpoints")
        result = None
        if (path / "evaluation.json").is_file():
            try:
                record = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
                at = column_of(record)
                mean, half = float(record["mean"][at]), float(record["ci95"][at])  # "nan" and "inf" are texts there
                result = f"{record['metric']} {mean:.4f} ± {half:.4f} (weights of step {record['step']})"
            except (ValueError, KeyError, IndexError, TypeError):
                result = "evaluation.json is damaged"
        runs.append({"run": str(path), "step": step, "result": result})
    return runs


def claimed(experiment: Experiment) -> str:
    """Return the published numbers of a run in a few words, each once; nothing where there are none."""
    percent = experiment.config.data.ways is not None
    texts = [claim.text(percent=percent) for m in experiment.measurements for claim in m.claims.values()]
    return ", ".join(dict.fromkeys(texts)) + (" %" if percent and texts else "")


def main(argv: Sequence[str]) -> int:
    """Parse the command line and list."""
    settings = tyro.cli(ListSettings, args=list(argv), prog="fastadapt list")
    runs = found_runs(settings.runs)
    if settings.json:
        presets = {name: text for name, (text, _) in PRESETS.items()}
        published = {
            name: {"what": e.what, "version": e.version, "source": e.source} for name, e in EXPERIMENTS.items()
        }
        shipped = shipped_models()
        print(json.dumps({"presets": presets, "published": published, "shipped": shipped, "runs": runs}, indent=2))
        return 0
    print("presets (fastadapt train PRESET):")
    print(f"  {'--data FOLDER':<28} your own images, one folder for each class; fastadapt check FOLDER first")
    for name, (text, config) in PRESETS.items():
        print(f"  {name:<28} {text}; {config.training.steps:,} steps")
    print("\npublished runs (fastadapt reproduce NAME):")
    for name, experiment in EXPERIMENTS.items():
        numbers = claimed(experiment)
        said = f"{experiment.what}{f'; published {numbers}' if numbers else ''}"
        print(f"  {name:<34} {said}{f' (version {experiment.version})' if experiment.version > 1 else ''}")
    print("\nmodels that come with fastadapt (fastadapt adapt NAME, serve NAME):")
    for name in shipped_models():
        print(f"  {name:<34} {EXPERIMENTS[name].what}")
    print(f"\nruns in {settings.runs}/:" if runs else f"\nno runs in {settings.runs}/")
    for entry in runs:
        print(f"  {entry['run']:<32} step {entry['step']}  {entry['result'] or 'not evaluated yet'}")
    return 0
