"""`fastadapt report RUN`: draw a run's pictures again, alone or against other runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fastadapt.data.domains.face_settings import FacesData
from fastadapt.errors import ConfigError
from fastadapt.evaluation import evaluate
from fastadapt.rl.settings import EnvironmentData
from fastadapt.runs.face_run import as_face_run
from fastadapt.runs.run_files import load_run
from fastadapt.training.log import read_metrics


@dataclass(frozen=True)
class ReportSettings:
    """Draw the pictures of a run into its report/ folder."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    against: tuple[Path, ...] = ()
    """Other runs to draw into the same figures, for example pretraining and the oracle."""
    data: Path | None = None
    """Folder that holds the data set; default FASTADAPT_DATA, then the user's cache."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and draw."""
    settings = tyro.cli(ReportSettings, args=list(argv), prog="fastadapt report")
    from fastadapt.report import write_report
    from fastadapt.report.faces import write_face_report

    loaded = load_run(settings.run)
    kind = loaded.input["kind"]
    if settings.against and kind not in ("points", "environment"):
        raise ConfigError(
            f"--against draws runs on sinusoids together, or on environments, but {settings.run} is neither"
        )
    if loaded.input["kind"] == "table":
        raise ConfigError(
            f"the report of a run on a table is written by train: see {settings.run}/report/comparison.md"
        )
    others = {path.name: load_run(path) for path in settings.against}
    if foreign := [name for name, other in others.items() if other.input["kind"] != kind]:
        raise ConfigError(f"{foreign[0]} is not of the kind of {settings.run}, so they have no figure in common")
    data = loaded.config.data
    if isinstance(data, EnvironmentData):
        for name, other in others.items():
            for fact in ("family", "horizon"):
                if other.input[fact] != loaded.input[fact]:
                    raise ConfigError(
                        f"{name} has the {fact} {other.input[fact]} and {settings.run} {loaded.input[fact]}; only "
                        "returns in the same environment can be drawn together"
                    )
    metrics = settings.run / "metrics.jsonl"
    records = read_metrics(metrics) if metrics.is_file() else []
    if isinstance(data, FacesData):
        model = as_face_run(loaded).model
        for path in write_face_report(settings.run, model, data, data.load(settings.data), records, loaded.name):
            print(path)
        return 0
    source = data.source("test", data.load(settings.data))
    result = evaluate(loaded.learner, source, loaded.config.protocol)
    for path in write_report(settings.run, loaded, records, result, source, others):
        print(path)
    return 0
