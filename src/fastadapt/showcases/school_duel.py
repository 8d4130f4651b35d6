"""Exam scores in a school that nothing was fitted to, from a few pupils: the table of the Inner London authority."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastadapt.compare.baselines import arrays_of, measure_baseline, simple_baselines
from fastadapt.compare.held_out import Draw, draw_rows, judge, learner_scores
from fastadapt.compare.task_gaussian import NAME, gaussian_baseline
from fastadapt.data.tables.table_settings import PreparedTable, prepare_table
from fastadapt.errors import DataError
from fastadapt.methods.cavia import CAVIA
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.context import WithContext
from fastadapt.nets.mlp import MLP
from fastadapt.rules.rules import SGD
from fastadapt.showcases.panel import Line, Panel
from fastadapt.showcases.rivals import best_adaptation, train_for
from fastadapt.training.settings import Training

FILE = "tabular/school.csv"
"""Where the table lies in a folder of data sets."""
RIVALS = {
    "ridge towards the pooled one": "rival",
    "pooled ridge, no adaptation": "rival",
    "ridge per task": "rival",
}
RULES: dict[str, Any] = {f"SGD {rate:g}": SGD(rate) for rate in (0.003, 0.01, 0.02, 0.05, 0.1)}
CONTEXT_RULES: dict[str, Any] = {f"SGD {rate:g}": SGD(rate) for rate in (0.1, 0.3, 1.0, 3.0)}
STEPS = (0, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class SchoolSizes:
    """Hold how much is measured.

    Args:
        pupils: labelled pupils of a new school.
        held_out: test schools.
        draws: how often each is taken, with other pupils.
    """

    pupils: Sequence[int] = (2, 5, 10, 20)
    held_out: int = 30
    draws: int = 5


def table_in(data: Path) -> Path:
    """Return where the table of schools is.

    Raises:
        DataError: if it is not there.
    """
    path = data if data.is_file() else next((p for p in (data / FILE, data / "school.csv") if p.is_file()), None)
    if path is None:
        raise DataError(
            f"there is no {FILE} in {data}; give the folder that holds the School data (139 schools, 15,362 pupils) "
            "with --data, or the file itself"
        )
    return path


def school_panel(sizes: SchoolSizes, seconds: float, seed: int, path: Path) -> Panel:
    """Train, tune and measure every method on the same pupils of the same held-out schools.

    Args:
        sizes: how much is measured.
        seconds: of meta-training, in all.
        seed: of the split, the weights and the training tasks.
        path: the table.
    """

    def prepared_for(with_queries: bool) -> PreparedTable:
        return prepare_table(
            path,
            task="school",
            target="score",
            shots=tuple(sizes.pupils),
            problem="regression",
            test=sizes.held_out,
            split_seed=seed,
            with_queries=with_queries,
        )

    prepared = prepared_for(True)
    data, table, arrays = prepared.data, prepared.loaded, arrays_of(prepared.loaded, prepared.data)
    learners, facts = _trained({True: prepared, False: prepared_for(False)}, seconds, seed)
    baselines = [*gaussian_baseline(arrays), *(b for b in simple_baselines(arrays) if b.name in RIVALS)]
    values: dict[str, list[np.ndarray]] = {name: [] for name in (*(b.name for b in baselines), *learners)}
    chosen: dict[str, list[str]] = {name: [] for name in values}

    def error(learner: GradientLearner, steps: Sequence[int], draws: Sequence[Draw]) -> list[np.ndarray]:
        """Return the squared error of each school after some numbers of steps."""
        scores = learner_scores(learner, table, draws, max(steps))
        return [judge([score[k] for score in scores], table, data, draws).per_task for k in steps]

    for pupils in sizes.pupils:
        for baseline in baselines:
            measured = measure_baseline(baseline, arrays, table, data, pupils, sizes.draws, seed + 1)
            values[baseline.name].append(measured.judged.per_task)
            chosen[baseline.name].append(", ".join(f"{name} {v:g}" for name, v in measured.setting.items()))
        draws = {part: draw_rows(table, data, part, pupils, sizes.draws, seed + 1) for part in ("val", "test")}

        def score(learner: GradientLearner, steps: Sequence[int], some: Sequence[Draw] = draws["val"]) -> list[float]:
            return [float(column.mean()) for column in error(learner, steps, some)]

        for name, learner in learners.items():
            rules, told = (CONTEXT_RULES if name == "CAVIA" else RULES), score
            best = best_adaptation({"": learner}, rules, STEPS, told)
            chosen[name].append(best.words)
            before, learner.rule = learner.rule, best.rule
            values[name].append(error(learner, [best.steps], draws["test"])[0])
            learner.rule = before
    roles: dict[str, Any] = dict.fromkeys(values, "learned") | RIVALS | {NAME: "gaussian"}
    return Panel(
        "Exam scores in a new school",
        sizes.pupils,
        "pupils",
        "mean squared error",
        higher_is_better=False,
        lines=[Line(name, roles[name], np.stack(v, 1), chosen[name]) for name, v in values.items()],
        facts={
            "schools": {"train": len(table.split.train), "val": len(table.split.val), "test": len(table.split.test)},
            "draws of each school": sizes.draws,
            "outer steps": facts,
        },
    )


def _trained(
    prepared: dict[bool, PreparedTable], seconds: float, seed: int
) -> tuple[dict[str, GradientLearner], dict[str, int]]:
    """Return the learners that `fastadapt train --data TABLE` would train, and the outer steps they had."""
    data, loss = prepared[True].data, prepared[True].data.loss

    def net(context: int = 0) -> nn.Module:
        inside = MLP(data.preparation.inputs + context, (64, 64), data.preparation.outputs, init_std=None)
        return WithContext(inside, context, flat=True) if context else inside

    maml = Training(meta_batch=16, lr=2e-3, schedule="cosine", clip_norm=10.0, seed=seed)
    reptile = Training(meta_batch=5, optimizer="sgd", lr=0.5, schedule="linear", seed=seed)
    ways: dict[str, tuple[Any, Training, bool]] = {
        "MAML": (lambda: MAML(net(), loss, rule=SGD(0.05), steps=5, route="vmap"), maml, True),
        "CAVIA": (lambda: CAVIA(net(5), loss, rule=SGD(1.0), steps=2, route="vmap"), maml, True),
        "Reptile": (lambda: Reptile(net(), loss, rule=SGD(0.05), steps=5, batch=10, route="vmap"), reptile, False),
    }
    learners, steps = {}, {}
    for name, (build, training, with_queries) in ways.items():
        torch.manual_seed(seed)
        learners[name] = build()
        source = prepared[with_queries].data.source("train", prepared[with_queries].loaded)
        steps[name] = train_for(learners[name], source, training, seconds / len(ways))
        learners[name].eval()
    return learners, steps
