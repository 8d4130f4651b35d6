"""Copy trained models of drawings into the package, each with what was measured of it.

    fastadapt reproduce drawing drawing-reptile --data DIR
    python benchmarks/published/ship.py drawing drawing-reptile

The folder `src/fastadapt/shipped/NAME` gets the exported model, verified, and `evaluation.json`, the measurements in
the result file; nothing else of the run.
"""

import argparse
import json
import shutil
from pathlib import Path

from fastadapt.atomic import write_folder
from fastadapt.errors import CheckpointError
from fastadapt.published.registry import find
from fastadapt.runs.run_files import MODEL_FILES, load_run
from fastadapt.runs.shipped import SHIPPED
from fastadapt.training.checkpoint import verify

RESULTS = Path(__file__).parent / "results"
MOST = 1_500_000  # bytes; Reptile's has Adam's moments beside the weights


def run_of(runs: Path, record: dict) -> Path:
    """Return the folder of the run that a record of a result file is of.

    Raises:
        CheckpointError: if it is not there.
    """
    for folder in sorted(runs.glob(f"seed-{record['seed']}*")):
        if (folder / "model" / "model.json").is_file() and load_run(folder).step == record["weights of step"]:
            return folder
    raise CheckpointError(f"{runs} holds no run whose exported weights are of step {record['weights of step']}")


def measurements(name: str, record: dict) -> list[dict]:
    """Return what was measured, each with its ways and shots."""
    (experiment,) = find([name])
    kinds = {measurement.name: measurement for measurement in experiment.measurements}
    rows = []
    for row in record["measurements"]:
        data = kinds[row["name"]].config(experiment.config).data
        rows.append({"ways": data.ways, "shots": data.shots, "step": record["weights of step"], **row})
    return rows


def ship(name: str, runs: Path) -> None:
    """Copy one model."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    record = result["runs"][0]
    model = run_of(runs / name, record) / "model"
    verify(model, MODEL_FILES)
    size = sum(path.stat().st_size for path in model.iterdir())
    if size > MOST:
        raise SystemExit(f"{model} has {size:,} bytes, a shipped model may have {MOST:,}")
    evaluation = json.dumps(measurements(name, record), indent=1) + "\n"

    def fill(folder: Path) -> None:
        for path in model.iterdir():
            shutil.copyfile(path, folder / path.name)
        (folder / "evaluation.json").write_text(evaluation, encoding="utf-8")

    write_folder(SHIPPED / name, fill)
    loaded = load_run(name)
    print(f"{name}: {size:,} bytes, step {loaded.step}, {loaded.fewest_ways} to {loaded.ways} classes")


def main() -> None:
    """Read the command line and copy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", help="published runs, as drawing")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    options = parser.parse_args()
    for name in options.names:
        ship(name, options.runs)


if __name__ == "__main__":
    main()
