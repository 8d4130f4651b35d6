"""Evaluation: a learner on many new tasks, with an interval, under a protocol that has a name.

Every number says how many tasks it is from, its 95 % confidence interval, after how many inner steps, and
whether the queries of a task saw one another (transductive). Tasks whose loss is not finite are counted
and named, never dropped in silence.
"""

import inspect
import json
import logging
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.images.resident import resident
from fastadapt.errors import ConfigError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.judging.not_finite import faults_of_data, listed
from fastadapt.layers.norm import Norm, batch_norm_layers
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.results.answers import Seen, counted, together
from fastadapt.results.by_class import ByClass, Tally
from fastadapt.results.evaluation_json import json_values
from fastadapt.tasks import SampleFunction, Tasks, TaskSource, draw_batch

logger = logging.getLogger("fastadapt")
Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def confidence(values: Sequence[float] | np.ndarray, ddof: int = 1) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval, `1.96 std / sqrt(n)`.

    Args:
        values: one number per task.
        ddof: 1 divides the variance by `n - 1` (the sample's), 0 by `n` (as MAML's code).

    Returns:
        The pair; the half-width is infinite for a single value with `ddof=1`, and both are not-a-number or
        infinite where a value is.

    Raises:
        ConfigError: if there are no values.

    Example:
        >>> mean, half = confidence([0.0, 1.0, 1.0, 1.0], ddof=0)
        >>> round(mean, 2), round(half, 3)
        (0.75, 0.424)
    """
    array = np.asarray(values, dtype=np.float64)
    n = array.size
    if n == 0:
        raise ConfigError("a confidence interval needs at least one value, got none")
    if n <= ddof:
        return float(array.mean()), math.inf
    with np.errstate(all="ignore"):
        return float(array.mean()), float(Z95 * array.std(ddof=ddof) / math.sqrt(n))


@dataclass(frozen=True)
class Protocol:
    """Fix how a number is measured, so that two numbers with the same protocol can be compared.

    Args:
        name: a versioned name such as "omniglot-5w1s-v1"; change a rule, change the version.
        tasks: how many test tasks.
        steps: inner steps; results are kept for 0..steps.
        norm: batch-norm mode; None takes the learner's own.
        seed: seed of the task stream.
        split: the stream of tasks, "test" or "val".
        ddof: of the interval's standard deviation.
        report: the number of inner steps whose result is *the* result; None is `steps`.
    """

    name: str = "custom-v1"
    tasks: int = 600
    steps: int | None = None
    norm: Norm | None = None
    seed: int = 1
    split: str = "test"
    ddof: int = 1
    report: int | None = None

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise ConfigError(f"a protocol needs at least 1 task, got {self.tasks}")
        if self.steps is not None and self.steps < 0:
            raise ConfigError(f"a protocol's inner steps must be >= 0, got {self.steps}")
        if self.report is not None and self.steps is not None and not 0 <= self.report <= self.steps:
            raise ConfigError(f"report={self.report} is not one of the measured steps 0..{self.steps}")


@dataclass(frozen=True)
class Evaluation:
    """Hold the result of an evaluation: curves over inner steps 0..k.

    Args:
        protocol: the protocol it was measured under.
        metric: the name of the headline metric ("accuracy", "mse", "loss").
        mean: the metric's mean over tasks, one number for each number of inner steps.
        ci95: half-width of the 95 % confidence interval of each mean.
        median: median over tasks; one whose metric is not a number counts as worse than any other.
        nonfinite: how many tasks had a loss or metric that is not finite, after each number of steps; they
            count in `mean`, which is then not finite either.
        finite_mean: the mean over the finite tasks alone, to be read together with `nonfinite`.
        nonfinite_tasks: the numbers of those tasks in the stream (at most 20).
        transductive: whether the queries of a task shared batch statistics.
        higher_is_better: the metric's direction; None where the loss does not say.
        norm: the batch-norm mode that was used; "none" for a model without batch norm.
        losses: mean query loss, one number for each number of steps.
        per_task: the metric of every task, `[tasks][k+1]`.
        after: the numbers of inner steps that the entries of each list belong to; 0..k unless fewer were asked for.
        by_class: accuracy class by class and balanced over classes, where a task has more queries of one class than of
            another; None where all have as many, so that it would say the same.
    """

    protocol: Protocol
    metric: str
    mean: list[float]
    ci95: list[float]
    median: list[float]
    nonfinite: list[int]
    finite_mean: list[float]
    nonfinite_tasks: list[int]
    transductive: bool
    higher_is_better: bool | None
    norm: str
    losses: list[float]
    per_task: list[list[float]]
    after: list[int]
    by_class: ByClass | None = None

    @property
    def step(self) -> int:
        """The number of inner steps that the headline result is after."""
        last = self.after[-1]
        return last if self.protocol.report is None else min(self.protocol.report, last)

    @property
    def column(self) -> int:
        """The place of the headline result in each list."""
        return self.after.index(self.step)

    @property
    def half(self) -> float:
        """Half-width of the 95 % confidence interval of the headline result."""
        return self.ci95[self.column]

    @property
    def score(self) -> float | None:
        """What checkpoints are ranked by, higher is better; None if it is not finite.

        It is the headline metric in its declared direction, and the loss where no direction is declared.
        """
        value = -self.losses[self.column]
        if self.higher_is_better is not None:
            value = self.result if self.higher_is_better else -self.result
        return value if math.isfinite(value) else None

    @property
    def result(self) -> float:
        """The headline result: the mean after `step` inner steps."""
        return self.mean[self.column]

    def __str__(self) -> str:
        """Return one line a person can read."""
        kind = "transductive" if self.transductive else "not transductive"
        bad = f", {self.nonfinite[self.column]} non-finite" if self.nonfinite[self.column] else ""
        more = "" if self.by_class is None else f", {self.by_class} as classes are unequal,"
        return (
            f"{self.metric} {self.result:.4f} ± {self.half:.4f} (95 % CI, {len(self.per_task)} tasks{bad}){more} "
            f"after {self.step} inner steps; protocol {self.protocol.name}, {kind}, norm {self.norm}"
        )

    def to_json(self, *, per_task: bool = False) -> str:
        """Return the result as JSON, with the numbers of every task if asked for."""
        record: dict[str, Any] = asdict(self)
        if not per_task:
            del record["per_task"]
        if self.by_class is None:
            del record["by_class"]
        return json.dumps(json_values(record), indent=2)


def evaluate(
    learner: Learner,
    source: TaskSource | SampleFunction,
    protocol: Protocol | None = None,
    *,
    meta_batch: int = 25,
    after: Sequence[int] | None = None,
    seen: Seen | None = None,
    enough: Callable[[int], bool] | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Adapt to each of many tasks and judge the queries after 0, 1, ..., k inner steps.

    Args:
        learner: any learner; it is left as it was.
        source: where the tasks come from; task `i` depends only on the protocol's seed and split and on `i`.
        protocol: how to measure; default 600 tasks with the learner's own steps and norm.
        meta_batch: tasks at a time; bounds memory, changes no result beyond rounding.
        after: judge only after these numbers of inner steps, and after the protocol's headline. Where each query is
            answered beside the support set, judging after each of 50 steps costs more than adapting.
        seen: `seen(numbers, tasks, trace)`, called as the tasks come, to keep what was answered.
        enough: `enough(done)`, asked before each `meta_batch`, whether the tasks that are done are to be all; the
            result is then under a protocol of another name, see `of_fewer`.
        ranks: the processes that share the work, all of which have to call this, such as `Ranks.found()`: each gets the
            numbers that one alone would. `seen` is shown the tasks of its own process.

    Returns:
        The evaluation; `print` it for one line.

    Raises:
        ConfigError: if the protocol asks for what does not exist.
        TaskError: if the source's tasks have no usable form.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> result = evaluate(MAML(MLP(1, (8,), 1)), Sinusoid(), Protocol(tasks=10, steps=2))
        >>> len(result.mean), result.metric
        (3, 'mse')
        >>> evaluate(MAML(MLP(1, (8,), 1)), Sinusoid(), Protocol(tasks=10, steps=20), after=[0, 5]).after
        [0, 5, 20]
    """
    protocol = protocol if protocol is not None else Protocol()
    after = None if after is None else with_headline(after, protocol, learner)
    tally = Tally()
    looks = [counted(tally, protocol.report, after), *([] if seen is None else [seen])]
    table = measure(
        learner, source, protocol, meta_batch, after=after, seen=together(looks), enough=enough, ranks=ranks
    )
    assert table is not None  # nothing asked it to stop
    result = summarise(table, of_fewer(protocol, len(table["loss"])), learner, after)
    if ranks is not None:
        tally = Tally.of_all(ranks.gathered(tally))
    return replace(result, by_class=tally.result()) if result.metric == "accuracy" and tally.unequal else result


def of_fewer(protocol: Protocol, tasks: int) -> Protocol:
    """Return the protocol as it was kept with so many tasks: itself, or one whose name says that they are fewer.

    Example:
        >>> of_fewer(Protocol("omniglot-5w1s-v1"), 50).name
        'custom (omniglot-5w1s-v1 with protocol.tasks changed)'
    """
    if tasks == protocol.tasks:
        return protocol
    return replace(protocol, name=with_changes(protocol.name, ["protocol.tasks"]), tasks=tasks)


def with_changes(name: str, changed: Sequence[str]) -> str:
    """Return the name of a protocol of which some settings are others, beside those that its name tells already.

    Example:
        >>> with_changes(with_changes("waves-v1", ["data.shots"]), ["data.shots", "protocol.tasks"])
        'custom (waves-v1 with data.shots, protocol.tasks changed)'
    """
    told = re.fullmatch(r"custom \((.+) with (.+) changed\)", name)
    before = [] if told is None else told[2].split(", ")
    every = [*before, *(one for one in changed if one not in before)]
    return f"custom ({name if told is None else told[1]} with {', '.join(every)} changed)"


def with_headline(after: Sequence[int], protocol: Protocol, learner: Learner) -> list[int]:
    """Return the numbers of inner steps to judge after, ascending, with the one of the headline result among them.

    Raises:
        ConfigError: if they are not whole numbers.
    """
    steps = learner.test_steps if protocol.steps is None else protocol.steps
    try:
        asked = {operator.index(step) for step in after}
    except TypeError:
        raise ConfigError(f"after must be whole numbers of inner steps such as [0, 5], got {after!r}") from None
    return sorted(asked | {steps if protocol.report is None else min(protocol.report, steps)})


def measure(
    learner: Learner,
    source: TaskSource | SampleFunction,
    protocol: Protocol,
    meta_batch: int = 25,
    stop: Callable[[], bool] = lambda: False,
    after: Sequence[int] | None = None,
    seen: Seen | None = None,
    enough: Callable[[int], bool] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, np.ndarray] | None:
    """Return per-task columns `{"loss": [n, k+1], metric: [n, k+1]}`, or None if `stop()` said so in between.

    `seen` is shown the numbers of some tasks, the tasks and their trace, as they come; `enough` ends it with those. Of
    several `ranks` each measures every so many-th `meta_batch`, and gets the columns of all: the same numbers as one.

    Raises:
        ConfigError: if `meta_batch` is below 1, or `after` is no selection of the protocol's steps.
    """
    chosen = {} if after is None else {"after": after}
    if chosen and "after" not in inspect.signature(learner.trace).parameters:
        raise ConfigError(
            f"{type(learner).__name__}.trace(tasks, steps, norm) needs the argument after, see Learner.trace"
        )
    if meta_batch < 1:
        raise ConfigError(f"meta_batch must be at least 1 task at a time, got {meta_batch}")
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    source = resident(source, device)
    ranks = ranks if ranks is not None else Ranks()
    found: dict[int, dict[str, Tensor]] = {}
    parts = range(0, protocol.tasks, meta_batch)
    told = False
    cuda = [device] if device.type == "cuda" else []
    for at in range(0, len(parts), ranks.world):  # so many parts at a time as there are processes
        halted, full = ranks.most(stop(), ranks.first and enough is not None and enough(parts[at]) and at > 0)
        if halted:
            return None
        if full:
            break
        if at + ranks.rank >= len(parts):
            continue
        first = parts[at + ranks.rank]
        indices = range(first, min(first + meta_batch, protocol.tasks))
        tasks = draw_batch(source, seed=protocol.seed, split=protocol.split, indices=indices)
        # whatever is random inside repeats
        with torch_random_kept(cuda, seed=(protocol.seed * 1_000_003 + first) % 2**63):
            trace = learner.trace([group.to(device) for group in tasks], protocol.steps, protocol.norm, **chosen)
        if seen is not None:
            seen(indices, tasks, trace)
        if not told and not bool(torch.isfinite(trace.losses).all()):
            told = _tell(tasks, indices, protocol)
        found[first] = {name: value.double().cpu() for name, value in {"loss": trace.losses, **trace.metrics}.items()}
    rows = {first: row for one in ranks.gathered(found) for first, row in one.items()}
    whole = [rows[first] for first in sorted(rows)]
    return {name: torch.cat([row[name] for row in whole]).numpy() for name in whole[0]}


def _tell(tasks: list[Tasks], numbers: Sequence[int], protocol: Protocol) -> bool:
    """Say which tasks have data that are not finite, and return whether there are any."""
    faults = faults_of_data(tasks, numbers)
    if faults:
        logger.warning(
            "the data of a task are not finite, and nor is what is measured: %s, of the stream (seed %d, %r); "
            "leave such "
            "samples out, or fill them in",
            listed(faults),
            protocol.seed,
            protocol.split,
        )
    return bool(faults)


def summarise(
    table: dict[str, np.ndarray], protocol: Protocol, learner: Learner, after: Sequence[int] | None = None
) -> Evaluation:
    """Return the evaluation of per-task columns `{"loss": [n, k+1], metric: [n, k+1]}`, after 0..k or `after` steps."""
    columns = table["loss"].shape[1]
    if after is not None and columns not in (1, len(after)):
        name = type(learner).__name__
        raise ConfigError(f"{name}.trace was asked for the columns after {list(after)} steps and gave {columns}")
    metric = next((name for name in table if name != "loss"), "loss")
    finite = np.isfinite(table[metric]) & np.isfinite(table["loss"])
    # an accuracy of logits that are not numbers looks like chance: it must not
    values = np.where(finite | ~np.isfinite(table[metric]), table[metric], np.nan)
    rows = [confidence(column, protocol.ddof) for column in values.T]
    with np.errstate(all="ignore"):
        kept = [float(v[f].mean()) if f.any() else math.nan for v, f in zip(values.T, finite.T, strict=True)]
    declared = getattr(getattr(learner, "loss", None), "higher_is_better", None)
    worst = -math.inf if declared and metric != "loss" else math.inf  # a few tasks that diverged leave a median
    layered = bool(batch_norm_layers(learner))
    norm = (protocol.norm or learner.norm) if layered else "none"
    return Evaluation(
        protocol=protocol,
        metric=metric,
        mean=[mean for mean, _ in rows],
        ci95=[half for _, half in rows],
        median=[float(m) for m in np.median(np.where(np.isnan(values), worst, values), axis=0)],
        nonfinite=[int(n) for n in (~finite).sum(0)],
        finite_mean=kept,
        nonfinite_tasks=[int(i) for i in np.flatnonzero(~finite.all(1))[:20]],
        transductive=norm == "transductive",
        higher_is_better=False if metric == "loss" else declared,
        norm=norm,
        losses=[float(m) for m in table["loss"].mean(0)],
        per_task=values.tolist(),
        # a method without inner steps has one column, whatever was asked
        after=list(range(columns)) if after is None or columns == 1 < len(after) else list(after),
    )
