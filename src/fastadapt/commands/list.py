"""`fastadapt list`: the presets, the published runs, and the runs below a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fastadapt.published.listing import read_listing
from fastadapt.results.evaluation_json import column_of
from fastadapt.runs.shipped import shipped_models
from fastadapt.training.saved_steps import newest_step


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


def main(argv: Sequence[str]) -> int:
    """Parse the command line and list."""
    settings = tyro.cli(ListSettings, args=list(argv), prog="fastadapt list")
    runs, listing, shipped = found_runs(settings.runs), read_listing(), shipped_models()
    presets, published = listing["presets"], listing["published"]
    if settings.json:
        known = {name: {key: run[key] for key in ("what", "version", "source")} for name, run in published.items()}
        told = {name: preset["what"] for name, preset in presets.items()}
        print(json.dumps({"presets": told, "published": known, "shipped": shipped, "runs": runs}, indent=2))
        return 0
    print("presets (fastadapt train PRESET):")
    print(f"  {'--data FOLDER':<28} your own images, one folder for each class; fastadapt check FOLDER first")
    for name, preset in presets.items():
        print(f"  {name:<28} {preset['what']}; {preset['steps']:,} steps")
    print("\npublished runs (fastadapt reproduce NAME):")
    for name, run in published.items():
        numbers, version = run["claimed"], run["version"]
        said = f"{run['what']}{f'; published {numbers}' if numbers else ''}"
        print(f"  {name:<34} {said}{f' (version {version})' if version > 1 else ''}")
    print("\nmodels that come with fastadapt (fastadapt adapt NAME, serve NAME):")
    for name in shipped:
        print(f"  {name:<34} {published[name]['what']}")
    print(f"\nruns in {settings.runs}/:" if runs else f"\nno runs in {settings.runs}/")
    for entry in runs:
        print(f"  {entry['run']:<32} step {entry['step']}  {entry['result'] or 'not evaluated yet'}")
    return 0
