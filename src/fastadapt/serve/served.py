"""A trained run as the service offers it: what it takes, by which methods it can be adapted, what is known of it."""

import copy
import hashlib
import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fastadapt.backbones.backbone import Backbone
from fastadapt.data.images.images import ImageRecipe
from fastadapt.engine.memory import PeakBytes
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner
from fastadapt.results.evaluation_json import column_of
from fastadapt.runs.run_files import LoadedRun, load_run, run_folder
from fastadapt.runs.shipped import shipped_models
from fastadapt.serve.behind import RunBehind, behind
from fastadapt.serve.limits import Limits
from fastadapt.serve.offered import FINE_TUNE, methods_of
from fastadapt.serve.problems import Problem

_SEED = 0  # of the random start: the same for everybody
MOST_SHOWN = 20  # classes that the page offers where a model takes any number
_PROBED = 4  # samples of each class from which the memory of one is estimated

_TRAINED_ON = {
    "OmniglotData": "Omniglot: handwritten characters of 50 alphabets",
    "MiniImageNetData": "mini-ImageNet: photographs of 64 classes",
    "SinusoidData": "sine waves of random height and phase",
    "EmbeddingsData": "what its backbone was trained on, of which it does not tell; the head is fitted to each task",
}


class ServedModel:
    """Hold a run and hand out learners.

    Args:
        run: the trained run, on the CPU.
        results: what was measured of it, for the page.
        others: runs of other methods on the same kind of input, to compare with; each is offered as a method.

    Raises:
        ConfigError: if one of the others takes another input, or never as many classes, or can't be told from one.
    """

    def __init__(
        self, run: LoadedRun, results: list[dict[str, Any]] | None = None, others: Sequence[LoadedRun] = ()
    ) -> None:
        self.run = run
        self.name = run.name
        self.results = results or []
        self.norm: Norm = "support+query" if run.learner.norm == "transductive" else run.learner.norm
        self.recipe: ImageRecipe | None = None
        if run.input.get("kind") == "image":
            # a photograph is not square; padding loses nothing of it
            self.recipe = ImageRecipe(**{**run.input, "fit": "pad"})
        _check_beside(run, others)
        self.methods, self.others = methods_of(run, others)
        self.fewest_ways, self.most_ways = _ways_of_all((run, *others))
        self._lock = threading.Lock()
        self._runs: dict[tuple[str | None, int | None], LoadedRun] = {(None, run.ways): run}
        self._runs |= {(method, other.ways): other for method, other in self.others.items()}
        self._learners: dict[tuple[str, int | None], Learner] = {}
        self._bytes: dict[int | None, float] = {}

    @property
    def own_method(self) -> str:
        """The method by which the run was trained."""
        return self.methods[0].name

    def run_for(self, ways: int | None, method: str | None = None) -> LoadedRun:
        """Return the run by which a method starts (the model's own for None), for tasks of so many classes.

        Raises:
            Problem: 422 if it was not made for so many.
        """
        fewest, most = self.fewest_ways, self.most_ways
        if ways is not None and fewest is not None and not fewest <= ways <= (ways if most is None else most):
            code = "too_few_classes" if ways < fewest else "too_many_classes"
            some = (
                f"{fewest} or more" if most is None else f"{fewest} to {most}" if fewest != most else f"exactly {most}"
            )
            raise Problem(422, code, f"there are {ways} classes, {self.name} takes {some}; change the task", "classes")
        key = method if method in self.others else None
        with self._lock:
            if (key, ways) not in self._runs:
                assert ways is not None
                # it builds a network first: the generator is everybody's, so it is put back
                with torch_random_kept():
                    self._runs[key, ways] = (self.run if key is None else self.others[key]).narrowed(ways)
            return self._runs[key, ways]

    def ways_of(self, y: Tensor) -> int | None:
        """Return the number of classes of a task with these labels; None for a regression."""
        return None if self.run.ways is None else int(y.max()) + 1

    def learner(self, method: str, ways: int | None) -> Learner:
        """Return a learner that nobody else has.

        Calling a network with other parameters writes to its module for a moment, so two threads that shared one
        would see each other's weights.

        Raises:
            Problem: 422 if the model has no such method.
        """
        self.check_method(method)
        run = self.run_for(ways, method)
        if method != FINE_TUNE:
            return copy.deepcopy(run.learner)
        with self._lock:
            if (method, ways) not in self._learners:
                with torch_random_kept(seed=_SEED):
                    self._learners[method, ways] = run.config.build().eval()
            return copy.deepcopy(self._learners[method, ways])

    def digest(self, method: str) -> str:
        """Return the SHA-256 of the weights that a method starts from, as a safetensors file of them has it."""
        return hashlib.sha256(save(self.learner(method, self.run.ways).state_dict())).hexdigest()

    def check_method(self, method: str | None) -> str:
        """Return the name of a method, the model's own for None.

        Raises:
            Problem: 422 if the model has no such method.
        """
        names = [each.name for each in self.methods]
        if method is None:
            return self.own_method
        if method not in names:
            raise Problem(
                422, "unknown_method", f"{self.name} has no method {method!a}; it has {', '.join(names)}", "method"
            )
        return method

    def default_steps(self) -> int:
        """Return the inner steps after which the run's result is reported."""
        return self.run.learner.test_steps

    def bytes_for(self, ways: int | None, samples: int) -> float:
        """Return the memory that adapting to so many samples takes at its peak, extrapolated from two small tasks."""
        with self._lock:
            known = self._bytes.get(ways)
        if known is None:
            learner = self.learner(self.own_method, ways)
            few, more = (_peak(learner, self.example(ways, n), self.norm) for n in (1, _PROBED))
            known = max(0.0, (more - few) / ((_PROBED - 1) * (ways or 1)))
            with self._lock:
                self._bytes[ways] = known
        return known * samples

    def example(self, ways: int | None, shots: int) -> tuple[Tensor, Tensor]:
        """Return a made-up support set `(x, y)` of so many classes and samples of each, or of points."""
        if self.recipe is None or ways is None:
            shape = self.run.input
            return torch.zeros(max(2, shots), shape["inputs"]), torch.zeros(max(2, shots), shape["outputs"])
        n = ways * shots
        # stripes rather than nothing: batch statistics of equal samples are degenerate
        x = torch.linspace(0, 1, n * self.recipe.channels * self.recipe.size**2)
        return x.view(n, self.recipe.channels, self.recipe.size, self.recipe.size), torch.arange(n) % ways

    def describe(self, limits: Limits) -> dict[str, Any]:
        """Return what `GET /api/models` says of it."""
        run = self.run
        ways = None if run.ways is None else {"fewest": self.fewest_ways, "most": self.most_ways or MOST_SHOWN}
        kind = type(run.config.data).__name__
        where = f"{run.net['name']}, {run.step:,} outer steps" if not isinstance(run, RunBehind) else f"behind {run.by}"
        return {
            "name": self.name,
            "title": f"{self.methods[0].title}, {where}",
            "input": {key: value for key, value in run.input.items() if key != "resize"},
            "ways": ways,
            "shots": {"most": limits.shots if ways else limits.points},
            "steps": {"default": min(self.default_steps(), limits.steps), "most": limits.steps},
            "methods": [vars(method) for method in self.methods],
            "trained_on": _TRAINED_ON.get(kind, kind.removesuffix("Data")),
            "accuracy": self.results,
            "norm": self.norm,
        }


def _check_beside(run: LoadedRun, others: Sequence[LoadedRun]) -> None:
    fewest, most = _ways_of_all((run, *others))
    for other in others:
        if other.input != run.input:
            raise ConfigError(f"{other.name} can't be compared with {run.name}: it takes another kind of input")
        if run.ways is not None and not (fewest or 0) <= run.ways <= (run.ways if most is None else most):
            raise ConfigError(
                f"{other.name} can't be compared with {run.name}: they don't both take tasks of {run.ways} classes"
            )


def _ways_of_all(runs: Sequence[LoadedRun]) -> tuple[int | None, int | None]:
    """Return the fewest and the most classes that all of the runs take; None for no limit, and for regression."""
    fewest = [run.fewest_ways for run in runs if run.fewest_ways is not None]
    most = [run.most_ways for run in runs if run.most_ways is not None]
    return max(fewest, default=None), min(most, default=None)


def _peak(learner: Learner, support: tuple[Tensor, Tensor], norm: Norm) -> float:
    with PeakBytes() as memory:
        learner.adapt(support, 1, norm)
    return memory.peak


def load_served(run: str, beside: Sequence[str] = (), backbone: Backbone | None = None) -> ServedModel:
    """Return a run, or the shipped model of that name, ready to be served, with the results that lie beside it.

    A shipped model brings those that are shipped to be compared with it: `drawing` brings `drawing-reptile`.

    Args:
        run: its folder, or the name of a shipped model.
        beside: further runs on the same kind of task, each offered as a method of this one.
        backbone: by which the embeddings of runs on such were computed, so that these take images.

    Raises:
        CheckpointError: if there is no such run, or its input is neither images nor points.
        ConfigError: if a run can't be offered beside it, or is on embeddings by another backbone.
    """
    folder = run_folder(run)
    loaded = behind(load_run(folder), backbone)
    if loaded.input.get("kind") not in ("image", "points"):
        kind = loaded.input.get("kind")
        raise CheckpointError(f"{run} is a run of kind {kind!r}; only runs on images and on points can be served")
    others = [load_run(folder.with_name(name)) for name in shipped_models() if name.startswith(f"{folder.name}-")]
    is_shipped = folder.name in shipped_models() and folder == run_folder(folder.name)
    named = [behind(load_run(run_folder(each)), backbone) for each in beside]
    return ServedModel(loaded, measured(folder, loaded), [*(others if is_shipped else ()), *named])


def measured(folder: Path, run: LoadedRun) -> list[dict[str, Any]]:
    """Return the accuracies in the `evaluation.json` of a run, each with ways, shots and half of its 95 % interval."""
    try:
        found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        rows = [_row(record, run) for record in (found if isinstance(found, list) else [found])]
    except (OSError, ValueError, KeyError, IndexError, TypeError):  # it is only shown
        return []
    return [row for row in rows if row is not None]


def _row(record: dict[str, Any], run: LoadedRun) -> dict[str, Any] | None:
    if record["metric"] != "accuracy":
        return None
    at = column_of(record)
    mean, half = float(record["mean"][at]), float(record["ci95"][at])
    if not (math.isfinite(mean) and math.isfinite(half)):
        return None
    alone = not record.get("transductive", False)  # the service answers every query alone
    task = {"ways": record.get("ways", run.ways), "shots": record.get("shots", run.shots)}
    return {**task, "mean": mean, "ci95": half, "alone": alone}
