"""The few-pilot receiver: symbol errors of devices never heard before, against the number of pilots they send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastadapt.data.receiver import SYMBOLS, Receiver, imbalance
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.losses import SymbolErrors
from fastadapt.methods.cavia import CAVIA
from fastadapt.methods.gaussian_prior import GaussianPrior
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.context import WithContext
from fastadapt.nets.mlp import MLP
from fastadapt.rules.rules import SGD, Adam
from fastadapt.showcases.demodulators import Bank, Estimate, FourNumbers, ScalarMMSE, decided, least_squares
from fastadapt.showcases.panel import Line, Panel
from fastadapt.showcases.rivals import best_adaptation, on_tasks, train_for
from fastadapt.tasks import draw_batch, task_rngs
from fastadapt.training.settings import Training

_CHUNK = 500
"""Devices at a time."""
_BANK = 200
"""Distortions that the bank remembers."""
RULES: dict[str, Any] = {
    **{f"SGD {rate:g}": SGD(rate) for rate in (0.1, 0.3, 1.0)},
    **{f"Adam {rate:g}": Adam(rate, beta1=0.9) for rate in (0.01, 0.03)},
}


@dataclass(frozen=True)
class ReceiverSizes:
    """Hold how much is drawn.

    Args:
        pilots: numbers of pilots.
        trained_with: the numbers of pilots that meta-training is done with; validation chooses among them.
        devices: test devices.
        symbols: symbols of each of them that are told.
        validation: devices on which rivals are tuned.
        training: devices from whose pilots the Gaussian is fitted.
        steps: numbers of inner steps that are tried, ascending.
    """

    pilots: Sequence[int] = (1, 2, 4, 8, 16, 32)
    trained_with: Sequence[int] = (4, 16)
    devices: int = 10_000
    symbols: int = 500
    validation: int = 200
    training: int = 1_000
    steps: Sequence[int] = (1, 2, 5, 10, 20)


def receiver_panel(sizes: ReceiverSizes, seconds: float, seed: int) -> Panel:
    """Train, tune and measure every receiver on the same devices.

    Args:
        sizes: how much is drawn.
        seconds: of meta-training, in all.
        seed: of weights, training tasks and test devices.
    """
    learned, facts = _trained(sizes, seconds, seed)
    noise = Receiver().noise
    rng = np.random.default_rng(seed)
    shapes = torch.tensor(np.stack([imbalance(*rng.beta(5.0, 2.0, 2)) for _ in range(_BANK)]), dtype=torch.float32)
    prior = _fitted(sizes, seed)
    estimates: dict[str, tuple[str, Estimate | None]] = {
        "Gaussian prior on the 2x2 matrix": ("gaussian", FourNumbers(prior)),
        "the paper's MMSE, one complex number": ("rival", ScalarMMSE(noise)),
        "least squares, 2x2": ("rival", least_squares),
        f"bank of {_BANK} training distortions": ("rival", Bank(shapes, noise)),
        "perfect knowledge": ("floor", None),
    }
    values = {name: np.empty((sizes.devices, len(sizes.pilots))) for name in (*estimates, *learned)}
    chosen: dict[str, list[str]] = {name: [] for name in learned}
    for column, pilots in enumerate(sizes.pilots):
        source = Receiver(pilots=pilots, symbols=sizes.symbols)
        for first in range(0, sizes.devices, _CHUNK):
            numbers = range(first, min(first + _CHUNK, sizes.devices))
            matrices, sent, heard = source.heard(task_rngs(seed + 1, "test", numbers))
            known, seen = SYMBOLS[sent[:, :pilots]], heard[:, :pilots]
            for name, (_, estimate) in estimates.items():
                believed = matrices if estimate is None else estimate(known, seen)
                values[name][numbers, column] = _errors(believed, heard[:, pilots:], sent[:, pilots:])
        for name, learners in learned.items():
            few = Receiver(pilots=pilots, symbols=50)
            best = best_adaptation(learners, RULES, sizes.steps, on_tasks(few, sizes.validation))
            chosen[name].append(best.words)
            before, best.learner.rule = best.learner.rule, best.rule
            protocol = Protocol("duel-receiver-v1", tasks=sizes.devices, steps=best.steps, seed=seed + 1)
            result = evaluate(best.learner, source, protocol, meta_batch=_CHUNK, after=[best.steps])
            best.learner.rule = before
            values[name][:, column] = np.array(result.per_task)[:, 0]
    lines = [Line(name, role, values[name]) for name, (role, _) in estimates.items()]  # type: ignore[arg-type]
    lines += [Line(name, "learned", values[name], chosen[name]) for name in learned]
    told = {"symbols of a device": sizes.symbols, "devices that the Gaussian is fitted to": sizes.training}
    return Panel(
        "A receiver that hears a few pilots",
        sizes.pilots,
        "pilots",
        "symbol error rate",
        higher_is_better=False,
        lines=lines,
        facts={**told, "noise variance of the fitted Gaussian": float(prior.noise), "outer steps": facts},
    )


def _errors(matrices: Tensor, heard: Tensor, sent: Tensor) -> np.ndarray:
    return (decided(matrices, heard) != sent).float().mean(1).numpy()


def _fitted(sizes: ReceiverSizes, seed: int) -> GaussianPrior:
    """Return the prior that 160 pilots of each training device tell; nothing of their true matrices is used."""
    source = Receiver(pilots=160, symbols=0, known=True)
    tasks = draw_batch(source, seed=seed, split="train", indices=range(sizes.training))
    prior = GaussianPrior(nn.Identity(), mean=torch.zeros(2, 2), constant=False)
    assert isinstance(prior, GaussianPrior)
    return prior.fit(tasks)


def _trained(
    sizes: ReceiverSizes, seconds: float, seed: int
) -> tuple[Mapping[str, Mapping[str, GradientLearner]], dict[str, int]]:
    """Return each method's learners by the number of pilots they were trained with, and the outer steps they had.

    Network and inner step of MAML are the paper's, 2-10-30-30-16 and one of 0.1.
    """

    def net(context: int = 0) -> MLP:
        return MLP(2 + context, (10, 30, 30), 16, init_std=None)

    adam = Training(meta_batch=20, lr=1e-3, schedule="cosine", seed=seed)
    inner: dict[str, Any] = {"rule": SGD(0.1), "steps": 1, "route": "vmap"}
    outer = Training(meta_batch=20, optimizer="sgd", lr=0.5, schedule="linear", seed=seed)
    ways: dict[str, tuple[Any, Training]] = {
        "MAML": (lambda: MAML(net(), SymbolErrors(), **inner), adam),
        "CAVIA": (
            lambda: CAVIA(WithContext(net(10), size=10), SymbolErrors(), rule=SGD(1.0), steps=2, route="vmap"),
            adam,
        ),
        "Reptile": (lambda: Reptile(net(), SymbolErrors(), rule=Adam(3e-3), steps=8, route="vmap"), outer),
    }
    each, steps = seconds / (len(ways) * len(sizes.trained_with)), {}
    learners: dict[str, dict[str, GradientLearner]] = {name: {} for name in ways}
    for name, (build, training) in ways.items():
        for pilots in sizes.trained_with:
            torch.manual_seed(seed)
            learner = build()
            words = f"trained with {pilots} pilots, "
            steps[f"{name}, {pilots} pilots"] = train_for(learner, Receiver(pilots=pilots), training, each)
            learners[name][words] = learner.eval()
    return learners, steps
