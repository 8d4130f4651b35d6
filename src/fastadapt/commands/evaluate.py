"""`fastadapt evaluate RUN`: measure a trained run on new tasks."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from fastadapt.atomic import write_text
from fastadapt.commands import evaluate_faces
from fastadapt.compare.by_instance import ByInstance, by_instance
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.tables.table_settings import TableData
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Evaluation, Protocol, evaluate, with_headline
from fastadapt.layers.norm import Norm
from fastadapt.methods.feature_reuse import nil
from fastadapt.results.answers import Answers, worst
from fastadapt.results.evaluation_json import json_values
from fastadapt.runs.run_files import LoadedRun, load_ensemble, load_run
from fastadapt.training.device import choose_device


@dataclass(frozen=True)
class EvaluateSettings:
    """Measure a run under its protocol; what is changed here makes it a custom one."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data: Path | None = None
    """Folder of the data set, or your table; default FASTADAPT_DATA, then the cache; own images: where they were."""
    tasks: int | None = None
    """How many test tasks."""
    steps: int | None = None
    """Inner steps; the result is given after each of 0..steps."""
    after: tuple[int, ...] | None = None
    """Give the result after these numbers of inner steps only, which saves time: 0 10 50."""
    norm: Norm | None = None
    """Batch-norm mode, for example support+query for Reptile's protocol that is not transductive."""
    seed: int | None = None
    """Seed of the test tasks."""
    ensemble: int | None = None
    """Ask so many of the best validated checkpoints and average their answers, as MAML++ is published."""
    nil: bool = False
    """Drop the head and adapt nothing: every support sample votes for its class by cosine similarity (NIL)."""
    meta_batch: int = 25
    """Tasks at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live."""
    out: Path | None = None
    """Also write the result to this JSON file, with every task: its samples, what is true and what was answered."""
    by_instance: bool = False
    """Also give the accuracy of a memory-augmented network (MANN) on the first, second, ... sample of a class."""
    json: bool = False
    """Print JSON instead of a table."""


def table(result: Evaluation) -> str:
    """Return the result after each number of inner steps as lines of text."""
    lines = [f"{'steps':>5}  {'mean':>9}  {'±95 %':>8}  {'median':>9}  non-finite"]
    columns = zip(result.after, result.mean, result.ci95, result.median, result.nonfinite, strict=True)
    for j, mean, half, median, bad in columns:
        mark = " <-" if j == result.step else ""
        lines.append(f"{j:>5}  {mean:>9.4f}  {half:>8.4f}  {median:>9.4f}  {bad}{mark}")
    if result.by_class is not None:
        each = zip(result.by_class.labels, result.by_class.queries, result.by_class.accuracy, strict=True)
        lines += [f"class {label}: {share:.4f} of {queries} queries" for label, queries, share in each]
    return "\n".join(lines)


def custom(protocol: Protocol, settings: EvaluateSettings) -> Protocol:
    """Return the run's protocol with the settings' changes, under another name if there are any.

    An ensemble and NIL are protocols of their own, so that their numbers never pass for those of the adapted model.
    """
    if settings.ensemble is not None:
        protocol = dataclasses.replace(protocol, name=f"{protocol.name}, ensemble of {settings.ensemble} checkpoints")
    if settings.nil:
        protocol = dataclasses.replace(protocol, name=f"{protocol.name}, NIL")
    changes = {name: getattr(settings, name) for name in ("tasks", "steps", "norm", "seed")}
    changes = {name: value for name, value in changes.items() if value is not None and value != getattr(protocol, name)}
    if not changes:
        return protocol
    report = None if "steps" in changes else protocol.report
    return dataclasses.replace(
        protocol, name=f"custom ({protocol.name} with {', '.join(changes)} changed)", report=report, **changes
    )


def of_stream(loaded: LoadedRun, settings: EvaluateSettings) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Return the result on tasks that are drawn without end, and what was answered in each."""
    data = loaded.config.data
    source = data.source("test", data.load(settings.data))
    protocol = custom(loaded.config.protocol, settings)
    after = None if settings.after is None else with_headline(settings.after, protocol, loaded.learner)
    answers = Answers(source, seed=protocol.seed, split=protocol.split, report=protocol.report, after=after)
    seen = answers if settings.out is not None else None
    result = evaluate(loaded.learner, source, protocol, meta_batch=settings.meta_batch, after=settings.after, seen=seen)
    return result, answers.records


def of_table(loaded: LoadedRun, data: TableData, settings: EvaluateSettings) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Return the result on all held-out tasks of a table, which are as many as there are, and the answers in each.

    Raises:
        ConfigError: if a number of tasks, a batch-norm mode, a choice of steps, an ensemble or NIL is asked for.
    """
    if settings.ensemble is not None or settings.nil:
        raise ConfigError(
            "a table's held-out tasks are measured with one adapted model; leave --ensemble and --nil out"
        )
    if settings.tasks is not None or settings.norm is not None or settings.after is not None:
        raise ConfigError(
            "a table's held-out tasks are all measured after every step, without batch norm; "
            "leave --tasks, --norm and --after out"
        )
    from fastadapt.compare.held_out import evaluate_held_out

    seed = 1 if settings.seed is None else settings.seed
    answers: list[dict[str, Any]] = []
    keep = answers if settings.out is not None else None
    table = data.load(settings.data)
    result = evaluate_held_out(loaded.learner, data, table, steps=settings.steps, seed=seed, answers=keep)
    return result, answers


def instances_of(loaded: LoadedRun, settings: EvaluateSettings) -> ByInstance:
    """Return accuracy by instance number on the tasks of the protocol.

    Raises:
        ConfigError: if the run's method does not answer at every step of a sequence.
    """
    data = loaded.config.data
    protocol = custom(loaded.config.protocol, settings)
    if isinstance(data, TableData):
        raise ConfigError(
            "accuracy by instance number is of classes, and this run is on a table; leave --by-instance out"
        )
    source = data.source("test", data.load(settings.data))
    return by_instance(loaded.learner, source, protocol, meta_batch=settings.meta_batch)


def written(
    result: Evaluation, answers: list[dict[str, Any]], instances: ByInstance | None = None, per_task: bool = True
) -> str:
    """Return the result as JSON, with its tasks and the numbers of the ten worst of them."""
    record = json.loads(result.to_json(per_task=per_task))
    if instances is not None:
        record["by_instance"] = json.loads(instances.to_json(per_task=per_task))
    if answers:
        record["worst_tasks"] = worst(answers, result.metric, result.higher_is_better)
        record["tasks"] = json_values(answers)
    return json.dumps(record, indent=2)


def refuse_for_faces(settings: EvaluateSettings) -> None:
    """Raise `ConfigError` for what a run on faces is not measured by."""
    names = ("tasks", "steps", "after", "norm", "seed", "ensemble", "nil", "by_instance")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(settings, name) not in (None, False)]
    if given:
        raise ConfigError(
            f"a run on faces is measured on all pairs of its domains, not on tasks; leave {', '.join(given)} out"
        )


def main(argv: Sequence[str]) -> int:
    """Parse the command line and evaluate."""
    settings = tyro.cli(EvaluateSettings, args=list(argv), prog="fastadapt evaluate")
    loaded = load_run(settings.run) if settings.ensemble is None else load_ensemble(settings.run, settings.ensemble)
    if settings.nil:
        loaded = dataclasses.replace(loaded, learner=nil(loaded.learner))
    device = choose_device(settings.device)
    loaded.learner.to(device)
    data = loaded.config.data
    if isinstance(data, FacesData):
        refuse_for_faces(settings)
        return evaluate_faces.run(loaded, settings.run, settings.data, device, settings.out, settings.json)
    instances = instances_of(loaded, settings) if settings.by_instance else None
    result, answers = of_table(loaded, data, settings) if isinstance(data, TableData) else of_stream(loaded, settings)
    if settings.out is not None:
        write_text(settings.out, written(result, answers, instances) + "\n")
    told = "" if instances is None else f"\n{instances}"
    words = f"{table(result)}\n{loaded.name}, step {loaded.step}: {result}{told}"
    print(written(result, [], instances, per_task=False) if settings.json else words)
    return 0
