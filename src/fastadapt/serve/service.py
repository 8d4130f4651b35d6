"""What the service does, apart from HTTP: create tasks, adapt, predict, export."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.serve import adaptation, exports, fitting, samples
from fastadapt.serve.bodies import Upload
from fastadapt.serve.exports import Export, Format, not_adapted
from fastadapt.serve.jobs import Emit, Job, Workers
from fastadapt.serve.limits import Limits
from fastadapt.serve.metrics import Metrics
from fastadapt.serve.problems import Problem, internal
from fastadapt.serve.schemas import Adapt, FitAsked, Predict
from fastadapt.serve.served import ServedModel
from fastadapt.serve.store import Adapted, Store, StoredTask

logger = logging.getLogger("fastadapt.serve")

_ONNX_SECONDS = 120.0
_FIRST_SECONDS = 60.0  # for a model's first adaptation of all
_SPARE = 0.5  # of a job's time: what is left of it may go to held-out samples


class Service:
    """Hold the models, the tasks and the threads of one server.

    Args:
        models: what is served; the first is the one that the page opens with.
        limits: how much is taken on.

    Raises:
        ConfigError: if there is no model, or two have the same name.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits) -> None:
        names = [model.name for model in models]
        if not names:
            raise ConfigError("there is nothing to serve; name at least one run")
        if len(set(names)) < len(names):
            raise ConfigError(f"two of the runs have the same name ({', '.join(names)}); rename a folder")
        self.models = {model.name: model for model in models}
        self.limits = limits
        self.metrics = Metrics()
        self.store = Store(limits)
        self.workers = Workers(limits)
        # an ONNX export takes seconds in a process of its own: one at a time, and nothing else waits for it
        self.exporter = Workers(replace(limits, workers=1, queue=min(8, limits.queue), seconds=_ONNX_SECONDS))
        self.warmed = asyncio.Event()

    def describe(self) -> dict[str, Any]:
        """Return what `GET /api/models` says."""
        most = self.limits
        return {
            "models": [model.describe(most) for model in self.models.values()],
            "signals": fitting.describe(most),
            "limits": {
                "body_bytes": most.body_bytes,
                "image_bytes": most.image_bytes,
                "images": most.images,
                "queries": most.queries,
                "points": most.points,
                "name_length": most.name_length,
                "seconds": most.seconds,
                "ttl_seconds": most.ttl_seconds,
            },
        }

    def describe_task(self, task: StoredTask) -> dict[str, Any]:
        """Return what is said of a task."""
        return {
            "id": task.id,
            "model": task.model,
            "classes": task.classes,
            "shots": task.shots,
            "adapted": sorted(task.adapted),
            "expires_in": self.store.expires_in(task),
        }

    def numbers(self) -> str:
        """Return the metrics as text."""
        return self.metrics.text(
            {
                "tasks": len(self.store),
                "task_bytes": self.store.size,
                "jobs_waiting": self.workers.waiting,
                "jobs_running": self.workers.busy,
            }
        )

    async def warm(self) -> None:
        """Adapt each model once to a made-up task: what is imported and built on first use delays no client's."""
        for model in self.models.values():
            try:
                await self.workers.run(partial(_tried, model), _FIRST_SECONDS)
            except Problem as problem:  # it is told to whoever asks for the same
                logger.warning("%s could not be tried: %s", model.name, problem.message)
        await self.workers.run(_tried_signals, _FIRST_SECONDS)
        self.warmed.set()

    def close(self) -> None:
        """Stop everything that runs."""
        self.workers.close()
        self.exporter.close()

    async def create(self, upload: Upload) -> StoredTask:
        """Decode a task and keep it.

        Raises:
            Problem: if anything in it can't be used; nothing is kept then.
        """
        model = self._model(upload.model)
        labels, shots, support = await self.workers.run(partial(self._decoded, model, upload))
        return self.store.add(model.name, labels, shots, support)

    def _decoded(
        self, model: ServedModel, upload: Upload, job: Job
    ) -> tuple[list[str] | None, list[int], tuple[Tensor, Tensor]]:
        if model.recipe is None:
            if upload.rows is None:
                raise Problem(422, "bad_task", f"{model.name} takes rows of numbers; send rows, not images", "rows")
            shape = model.run.input
            x, y = samples.points(upload.rows, shape["inputs"], shape["outputs"], self.limits)
            return None, [len(x)], (x, y)
        if upload.rows is not None:
            raise Problem(422, "bad_task", f"{model.name} takes images; send classes, not rows", "classes")
        groups = samples.grouped(upload.unpacked(self.limits), self.limits)
        model.run_for(len(groups))
        shots = [len(group) for group in groups.values()]
        self._check_memory(model, len(groups), sum(shots))
        files = [replace(file, label=name) for name, group in groups.items() for file in group]
        x = samples.decoded(model.recipe, [(file.content, file.field) for file in files], job.check)
        samples.check_apart(x, files)
        return list(groups), shots, (x, torch.arange(len(shots)).repeat_interleave(torch.tensor(shots)))

    def _check_memory(self, model: ServedModel, ways: int, images: int) -> None:
        needed = model.bytes_for(ways, images)
        if needed > self.limits.job_bytes:
            raise Problem(
                413,
                "too_much_memory",
                f"adapting to {images} images takes about {needed / 1e6:.0f} MB, the most allowed are "
                f"{self.limits.job_bytes / 1e6:.0f} MB; send fewer",
                "classes",
            )

    async def adapt(self, task: StoredTask, body: Adapt, job: Job) -> AsyncIterator[bytes]:
        """Begin an adaptation and return its lines; one that still runs on the task is cancelled.

        Raises:
            Problem: 422 for what can't be done, 400 for a query that can't be read, 429 if the queue is full.
        """
        model = self.models[task.model]
        method = model.check_method(body.method)
        steps = min(model.default_steps(), self.limits.steps) if body.steps is None else body.steps
        self.limits.check_count(steps, self.limits.steps, "steps", "steps")
        self._check_queries(model, body.queries)
        work = partial(self._adapt, model, task, method, steps, body)
        return await self.workers.stream(job, work, body.sequence, partial(self.store.start, task, job))

    def _adapt(
        self, model: ServedModel, task: StoredTask, method: str, steps: int, body: Adapt, job: Job, emit: Emit
    ) -> None:
        ended = "failed"
        try:
            self._adapt_and_tell(model, task, method, steps, body, job, emit)
            ended = "done"
        except Problem as problem:
            ended = problem.code
            raise
        finally:
            self.metrics.count("adaptations_total", model=model.name, method=method, ended=ended)

    def _adapt_and_tell(
        self, model: ServedModel, task: StoredTask, method: str, steps: int, body: Adapt, job: Job, emit: Emit
    ) -> None:
        queries = self._queries(model, body.queries, job)
        answers = "predictions" if task.classes is None else "probabilities"
        last: adaptation.Step | None = None
        for last in adaptation.steps_of(model, method, task.support, steps, body.rate, queries, job.check):
            emit(
                {
                    "step": last.number,
                    "loss": last.loss,
                    "support_accuracy": last.accuracy,
                    answers: last.answers.tolist() if len(queries) else [],
                    "held_out": None,
                }
            )
        assert last is not None  # there is always step 0
        seconds = job.elapsed
        self.store.finish(task, job, method, Adapted(last.predictor, last.number, body.rate))
        near = []
        if task.classes is not None:
            near = adaptation.nearest(last.predictor, task.support, queries, job.check)
        held_out = self._held_out(model, task, method, steps, body.rate, job)
        before, after = (None, None) if held_out is None else held_out
        emit(
            {
                "done": True,
                "seconds": round(seconds, 4),
                "nearest": near,
                "held_out": after,
                "held_out_before": before,
            }
        )
        self.metrics.observe(job.elapsed)

    def _held_out(
        self, model: ServedModel, task: StoredTask, method: str, steps: int, rate: float | None, job: Job
    ) -> tuple[float, float] | None:
        """Return the held-out accuracy before and after, or None where there is none or no time for it."""

        def check() -> None:
            job.check()
            if job.elapsed > _SPARE * job.seconds:
                raise TimeoutError

        if max(task.shots) < 2:
            return None
        try:
            return adaptation.held_out(model, method, task.support, steps, rate, check)
        except TimeoutError:
            return None
        except Problem as problem:
            if problem.code != "diverged":  # fewer samples may diverge where all of them did not
                raise
            return None

    async def fit(self, body: FitAsked, job: Job) -> AsyncIterator[bytes]:
        """Begin to fit a picture or a sound, and return its lines; nothing of it is kept.

        Raises:
            Problem: 422 for what can't be done, 400 for what can't be read, 429 if the queue is full.
        """
        steps = fitting.check_limits(body, self.limits)
        return await self.workers.stream(job, partial(self._fit, body, steps), body.sequence, lambda: None)

    def _fit(self, body: FitAsked, steps: int, job: Job, emit: Emit) -> None:
        ended = "failed"
        try:
            signal = fitting.signal_of(body, self.limits)
            for line in fitting.lines_of(signal, steps, job.check):
                emit({**line, "seconds": round(job.elapsed, 4)} if "done" in line else line)
            ended = "done"
        except Problem as problem:
            ended = problem.code
            raise
        finally:
            self.metrics.count("fits_total", signal=fitting.kind_of(body), ended=ended)

    async def predict(self, task: StoredTask, body: Predict) -> dict[str, Any]:
        """Answer queries with what the last finished adaptation left.

        Raises:
            Problem: 409 if there was none.
        """
        model = self.models[task.model]
        method = model.check_method(body.method)
        self._check_queries(model, body.queries)
        adapted = task.adapted.get(method)
        if adapted is None:
            raise not_adapted(method)
        return await self.workers.run(partial(self._predict, model, task, adapted, body))

    def _predict(
        self, model: ServedModel, task: StoredTask, adapted: Adapted, body: Predict, job: Job
    ) -> dict[str, Any]:
        queries = self._queries(model, body.queries, job)
        # others may ask the same predictor at this moment
        predictor = adaptation.copied(adapted.predictor)
        rows = adaptation.answers(predictor, queries, task.classes is not None, job.check)
        if not bool(rows.isfinite().all()):
            raise adaptation.too_far()
        if task.classes is None:
            return {"predictions": rows.tolist() if len(queries) else []}
        labels = [task.classes[i] for i in rows.argmax(-1).tolist()] if len(queries) else []
        return {"probabilities": rows.tolist() if len(queries) else [], "labels": labels}

    async def export(self, task: StoredTask, kind: Format, method: str | None) -> Export:
        """Return a file to take away.

        Raises:
            Problem: as `exports.export`.
        """
        model = self.models[task.model]
        name = model.check_method(method)
        workers = self.exporter if kind == "onnx" else self.workers
        try:
            return await workers.run(partial(exports.export, model, task, kind, name))
        except (CheckpointError, OSError) as error:  # a full disk: the server's trouble and not the client's
            logger.error("an export failed", exc_info=error)
            raise internal() from None

    def _model(self, name: str) -> ServedModel:
        if name not in self.models:
            known = ", ".join(self.models)
            raise Problem(422, "unknown_model", f"there is no model {name[:40]!a} here; there is {known}", "model")
        return self.models[name]

    def _check_queries(self, model: ServedModel, queries: Sequence[str | list[float]]) -> None:
        most = self.limits.queries if model.recipe is not None else self.limits.points
        self.limits.check_count(len(queries), most, "queries", "queries")
        kind = str if model.recipe is not None else list
        wrong = next((i for i, query in enumerate(queries) if not isinstance(query, kind)), None)
        if wrong is not None:
            what = "images; send base64" if kind is str else "rows of numbers; send lists"
            raise Problem(422, "bad_value", f"{model.name} is asked about {what}", f"queries[{wrong}]")

    def _queries(self, model: ServedModel, queries: Sequence[str | list[float]], job: Job) -> Tensor:
        """Return what is asked about as `[q, ...]`."""
        if model.recipe is None:
            inputs = model.run.input["inputs"]
            rows = [query for query in queries if not isinstance(query, str)]
            return samples.table(rows, inputs, "queries") if rows else torch.zeros(0, inputs)
        images = [query for query in queries if isinstance(query, str)]
        if not images:
            return torch.zeros(0, model.recipe.channels, model.recipe.size, model.recipe.size)
        files = [(samples.from_base64(text, f"queries[{i}]"), f"queries[{i}]") for i, text in enumerate(images)]
        return samples.decoded(model.recipe, files, job.check)


def _tried(model: ServedModel, job: Job) -> None:
    """Adapt to a made-up task by each method, for one step, and answer a query."""
    ways = None if model.run.ways is None else model.fewest_ways or model.run.ways
    support = model.example(ways, 1)
    model.bytes_for(ways, len(support[0]))
    for method in model.methods:
        for _ in adaptation.steps_of(model, method.name, support, 1, None, support[0][:1], job.check):
            pass


def _tried_signals(job: Job) -> None:
    """Fit what the server makes itself, for one step."""
    for kind in fitting.KINDS:
        signal = fitting.example(kind, fitting.SMALLEST, fitting.SHORTEST)
        for _ in fitting.lines_of(signal, 1, job.check):
            pass
