"""The rates of fine-tuning, chosen on validation tasks: a baseline deserves its best setting."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch

from fastadapt.errors import ConfigError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.losses import CrossEntropy
from fastadapt.methods.fine_tune import FineTune
from fastadapt.rules.rules import DecayedSGD
from fastadapt.tasks import SampleFunction, Task, TaskSource, draw

RATES = (0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 0.0)
"""The grid of Ravi & Larochelle's public code: step sizes, and decays of them."""


@dataclass(frozen=True)
class TunedTransfer:
    """Hold the result of a search for the rates of fine-tuning.

    Args:
        lr: the best step size.
        decay: the best decay.
        accuracy: for every pair `(lr, decay)` the mean accuracy over the validation tasks, in the order of trying.
    """

    lr: float
    decay: float
    accuracy: dict[tuple[float, float], float]

    @property
    def rule(self) -> DecayedSGD:
        """The update rule with the best pair: `learner.rule = tuned.rule`."""
        return DecayedSGD(self.lr, self.decay)


def tune_transfer(
    learner: FineTune,
    source: TaskSource | SampleFunction,
    *,
    rates: Sequence[float] = RATES,
    decays: Sequence[float] = DECAYS,
    tasks: int = 100,
    seed: int = 1,
) -> TunedTransfer:
    """Return the step size and decay with which fine-tuning is most accurate on validation tasks.

    Every pair of the grid fine-tunes on the same tasks, those of the stream `(seed, "val")`, by the learner's
    `test_steps` updates. An answer that is not finite counts as wrong; of equals the first pair wins.

    Args:
        learner: left as it was.
        source: of validation classes, with the ways, shots and queries of the test.
        rates: step sizes to try.
        decays: decays to try with each.
        tasks: how many validation tasks.
        seed: of the task stream.

    Returns:
        The best pair, and the accuracy of every one.

    Raises:
        ConfigError: if there is no pair or no task to try.

    Example:
        >>> from fastadapt import MLP, ClassImages
        >>> images = torch.arange(48, dtype=torch.uint8).view(12, 2, 2) * 5
        >>> source = ClassImages(images, torch.arange(12).numpy() // 4, ("a", "b", "c"), ways=3, queries=3)
        >>> tuned = tune_transfer(FineTune(MLP(4, (8,), 3)), source, rates=[0.1, 0.0], decays=[0.0], tasks=2)
        >>> list(tuned.accuracy)
        [(0.1, 0.0), (0.0, 0.0)]

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR), and its public code.
    """
    pairs = list(product(rates, decays))
    if not pairs or tasks < 1:
        raise ConfigError(
            f"tuning needs at least one pair of rates and one task, got {len(rates)} step sizes, {len(decays)} decays "
            f"and {tasks} tasks"
        )
    right = dict.fromkeys(pairs, 0.0)
    device = next(learner.parameters()).device
    for index in range(tasks):
        [task] = draw(source, seed=seed, split="val", indices=[index])
        task = task.to(device)
        for pair in pairs:
            right[pair] += _accuracy(learner, DecayedSGD(*pair), task, index)
    accuracy = {pair: total / tasks for pair, total in right.items()}
    return TunedTransfer(*max(accuracy, key=lambda pair: accuracy[pair]), accuracy)


def _accuracy(learner: FineTune, rule: DecayedSGD, task: Task, seed: int) -> float:
    """Return the share of a task's queries that are answered right after fine-tuning with `rule`."""
    x, y = task.query
    # whatever is random inside repeats
    with _with_rule(learner, rule), torch_random_kept([x.device] if x.is_cuda else [], seed=seed):
        predictor = learner.adapt(task.support)
    with torch.no_grad():
        logits = predictor(x)
    finite = logits.isfinite().all(-1)
    return float(CrossEntropy().metrics(logits, (x, y.where(finite, -1)))["accuracy"])


@contextmanager
def _with_rule(learner: FineTune, rule: DecayedSGD) -> Iterator[None]:
    before = learner.rule
    learner.rule = rule
    try:
        yield
    finally:
        learner.rule = before
