"""The report of a run: pictures and a table, so that a person can look rather than read logs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastadapt.atomic import write_text
from fastadapt.compare.shots import evaluate_shots
from fastadapt.evaluation import Evaluation, evaluate
from fastadapt.report.classes import draw_task
from fastadapt.report.curves import draw_curves
from fastadapt.report.locomotion import draw_adapted
from fastadapt.report.policies import curve_of, draw_returns, draw_walks
from fastadapt.report.sinusoid import draw_adaptation
from fastadapt.report.steps import draw_steps
from fastadapt.report.style import need_matplotlib
from fastadapt.report.table import evaluation_table
from fastadapt.report.worst import draw_worst
from fastadapt.rl.locomotion import Locomotion
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.navigation import Navigation
from fastadapt.rl.settings import EnvironmentData
from fastadapt.runs.config import SinusoidData
from fastadapt.runs.run_files import LoadedRun
from fastadapt.tasks import TaskSource


def write_report(
    folder: Path,
    run: LoadedRun,
    records: list[dict[str, Any]],
    evaluation: Evaluation,
    source: TaskSource,
    against: Mapping[str, LoadedRun] | None = None,
    worst: int = 10,
) -> list[Path]:
    """Write `folder/report/`: `table.md`, `curves.png`, and pictures of tasks of the kind the run has.

    Sinusoids get `adaptation.png` (one wave, before and after) and `steps.png` (the error against the number
    of steps, K = 5, 10, 20); images get `task.png` (one task with its answers). Both get `worst.png`, the ten tasks
    that came out worst. Environments get `returns.png` (the return against the number of updates, with the runs of
    `against`), on the plane `walks.png` (before and after one update), and for bodies `run.png` and `run.gif` (the same
    in frames, or where they were). The table is written first, as it needs
    nothing that may be missing.

    Args:
        folder: the folder of the run.
        run: the trained learner.
        records: the records of `metrics.jsonl`.
        evaluation: the run's result.
        source: the test tasks.
        against: other runs on sinusoids, or on environments, by the name to show, drawn into the same figures.
        worst: how many of the worst tasks to draw.

    Returns:
        The files that were written.

    Raises:
        MissingExtraError: if matplotlib is not installed; the table is written all the same.
        CheckpointError: if a file can't be written.
    """
    report = Path(folder) / "report"
    table = report / "table.md"
    write_text(table, _table(run, evaluation))
    need_matplotlib()
    files = [table, draw_curves(records, report / "curves.png", name=run.name)]
    if isinstance(run.config.data, SinusoidData):
        files += _sinusoid(report, run, evaluation, against or {}, table)
        return files if run.config.data.oracle else [*files, *_worst(report, run, evaluation, source, worst)]
    if isinstance(run.config.data, EnvironmentData):
        return files + _policies(report, run, evaluation, source, against or {})
    if run.input["kind"] == "image":
        picture = draw_task(
            run.learner,
            source,
            report / "task.png",
            steps=evaluation.step,
            seed=evaluation.protocol.seed,
            evaluation=evaluation,
        )
        files += [picture, *_worst(report, run, evaluation, source, worst)]
    return files


def _policies(
    report: Path, run: LoadedRun, evaluation: Evaluation, source: Any, against: Mapping[str, LoadedRun]
) -> list[Path]:
    """Draw the returns of runs on environments, each measured on the same goals, and walks on the plane."""
    data: Any = run.config.data
    curves = {run.name: curve_of(evaluation)}
    for name, other in against.items():
        name = f"{name} (other)" if name == run.name else name
        theirs = replace(other.config.protocol, tasks=evaluation.protocol.tasks, seed=evaluation.protocol.seed)
        curves[name] = curve_of(evaluate(other.learner, other.config.data.source("test"), theirs))
    tasks = len(evaluation.per_task)
    files = [draw_returns(curves, report / "returns.png", tasks=tasks, what=data.family)]
    if data.family == Navigation.name and not data.told and isinstance(run.learner, MetaPolicy):
        files.append(draw_walks(run.learner, source, report / "walks.png", seed=evaluation.protocol.seed))
    if isinstance(source.family, Locomotion) and isinstance(run.learner, MetaPolicy):
        files += draw_adapted(run.learner, source, report, seed=evaluation.protocol.seed)
    return files


def _worst(report: Path, run: LoadedRun, evaluation: Evaluation, source: TaskSource, count: int) -> list[Path]:
    drawn = draw_worst(run.learner, source, evaluation, report / "worst.png", count) if count else None
    return [] if drawn is None else [drawn]


def _table(run: LoadedRun, evaluation: Evaluation, more: str = "") -> str:
    protocol = evaluation.protocol
    method = type(run.config.method).__name__.removesuffix("Method")
    seen = "transductive (a task's queries share batch statistics)" if evaluation.transductive else "not transductive"
    facts = (
        f"# {run.name}\n\n{method}, weights of outer step {run.step:,}. Protocol {protocol.name}: "
        f"{len(evaluation.per_task):,} tasks of the stream ({protocol.seed}, {protocol.split!r}); "
        f"norm {evaluation.norm}, {seen}. The interval is 1.96 standard deviations (ddof {protocol.ddof}) "
        "over the root of the number of tasks; tasks that are not finite count in the mean.\n\n"
    )
    return facts + evaluation_table(evaluation) + more


def _sinusoid(
    report: Path, run: LoadedRun, evaluation: Evaluation, against: Mapping[str, LoadedRun], table: Path
) -> list[Path]:
    """Draw the two sinusoid figures, and add the numbers of the second to the table."""
    runs: dict[str, tuple[LoadedRun, SinusoidData]] = {}
    others = {f"{name} (other)" if name == run.name else name: other for name, other in against.items()}
    for name, other in {run.name: run, **others}.items():
        if isinstance(other.config.data, SinusoidData):
            runs[name] = (other, other.config.data)
    results: dict[str, dict[int, Evaluation]] = {}
    more = []
    for name, (other, data) in runs.items():
        steps = 0 if data.oracle else (evaluation.after[-1] or 10)
        protocol = replace(evaluation.protocol, steps=steps, report=None)
        results[name] = evaluate_shots(other.learner, family=data.family, oracle=data.oracle, protocol=protocol)
        more += [f"\n## {name}, K = {k}\n\n{evaluation_table(result)}" for k, result in results[name].items()]
    write_text(table, _table(run, evaluation, "".join(more)))
    oracles = {name for name, (_, data) in runs.items() if data.oracle}
    picture = draw_adaptation(
        {name: other.learner for name, (other, _) in runs.items() if name not in oracles or name == run.name},
        report / "adaptation.png",
        family=runs[run.name][1].family,
        oracles=oracles,
    )
    return [picture, draw_steps(results, report / "steps.png")]
