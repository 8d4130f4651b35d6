"""Few-view tomography: how well a head is known after some projections, by how heads differ or by a learned start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastadapt.data.phantoms import SIZE, phantoms, projections
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.methods.task_prior import TaskPrior, prior_of_values
from fastadapt.rules.rules import Adam
from fastadapt.showcases.panel import Line, Panel
from fastadapt.showcases.rivals import best_adaptation, train_for
from fastadapt.tasks import Task, Tasks
from fastadapt.training.settings import Training

_NOISES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
RULES: dict[str, Any] = {f"Adam {rate:g}": Adam(rate, beta1=0.9) for rate in (1e-3, 3e-3, 1e-2)}


@dataclass(frozen=True)
class PhantomSizes:
    """Hold how much is drawn.

    Args:
        views: numbers of views.
        training: heads that are known.
        validation: heads on which rivals are tuned.
        test: heads that are told.
        steps: inner steps of the learned starts that are tried, ascending.
        tuning: of the validation heads, those on which a learned start is tuned.
    """

    views: Sequence[int] = (1, 2, 4, 8, 16)
    training: int = 3_000
    validation: int = 100
    test: int = 60
    steps: Sequence[int] = (4, 12, 40)
    tuning: int = 6


def phantom_panel(sizes: PhantomSizes, seconds: float, seed: int) -> Panel:
    """Fit, train, tune and measure every method on the same heads and noise-free views.

    Args:
        sizes: how much is drawn.
        seconds: of meta-training, in all.
        seed: of heads and weights.
    """
    train, val, test = (
        torch.from_numpy(phantoms(count, 3 * seed + part))
        for part, count in enumerate((sizes.training, sizes.validation, sizes.test))
    )
    prior, mean = prior_of_values(train), train.mean(0)
    learners, facts = _trained(train.float(), seconds, seed)
    lines: dict[str, list[Tensor]] = {"Gaussian prior on the pixels": [], "nearest training head": [], "mean image": []}
    chosen: dict[str, list[str]] = {name: [] for name in ("Gaussian prior on the pixels", *learners)}
    lines |= {name: [] for name in learners}
    for views in sizes.views:
        a = torch.from_numpy(projections(views))
        seen, seen_val = test @ a.T, val @ a.T
        answers = {noise: TaskPrior(prior.mean, prior.covariance, noise).posterior_mean for noise in _NOISES}
        noise = max(_NOISES, key=lambda noise: float(psnr(answers[noise](a, seen_val), val).mean()))
        chosen["Gaussian prior on the pixels"].append(f"noise variance {noise:g}")
        lines["Gaussian prior on the pixels"].append(psnr(answers[noise](a, seen), test))
        nearest = torch.cdist(seen, train @ a.T).argmin(1)
        lines["nearest training head"].append(psnr(train[nearest], test))
        lines["mean image"].append(psnr(mean.expand_as(test), test))
        for name, learner in learners.items():
            score = _score(a.float(), val[: sizes.tuning].float())
            best = best_adaptation({"": learner}, RULES, sizes.steps, score, higher_is_better=True)
            chosen[name].append(best.words)
            before, learner.rule = learner.rule, best.rule
            lines[name].append(psnr(_fits(learner, a.float(), test.float(), [best.steps])[0].double(), test))
            learner.rule = before
    roles: dict[str, Any] = dict.fromkeys(lines, "learned") | {
        "Gaussian prior on the pixels": "gaussian",
        "nearest training head": "rival",
        "mean image": "rival",
    }
    return Panel(
        "A head from a few X-ray views",
        sizes.views,
        "views",
        "PSNR in dB",
        higher_is_better=True,
        lines=[Line(n, roles[n], torch.stack(v, 1).numpy(), chosen.get(n, ())) for n, v in lines.items()],
        facts={"training heads": sizes.training, "pixels": SIZE * SIZE, "outer steps": facts},
    )


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of each image `[T, pixels]` in [0, 1], `-10 log10 mse`.

    Example:
        >>> psnr(torch.zeros(1, 4), torch.full((1, 4), 0.1))
        tensor([20.])
    """
    return -10 * (images.clamp(0, 1) - truth).square().mean(-1).clamp_min(1e-12).log10()


class Field(nn.Module):
    """Give the density at every pixel's centre: random Fourier features, a small network, a sigmoid.

    Args:
        features: Fourier features, of which each is a sine and a cosine.
        width: of the two hidden layers.
        scale: standard deviation of the frequencies, in turns over the image.

    References:
        Tancik et al. 2021, Learned Initializations for Optimizing Coordinate-Based Neural Representations
        (arXiv:2012.02189), whose network is larger.
    """

    def __init__(self, features: int = 64, width: int = 64, scale: float = 3.0) -> None:
        super().__init__()
        centres = (torch.arange(SIZE) + 0.5) / SIZE
        turns = 2 * torch.pi * torch.cartesian_prod(centres, centres) @ (scale * torch.randn(2, features))
        self.encoded: Tensor
        self.register_buffer("encoded", torch.cat((turns.sin(), turns.cos()), 1))
        layers = [nn.Linear(2 * features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, a: Tensor) -> Tensor:
        """Return the projections `[rays, 1]` of the image by a matrix `a: [rays, pixels]`."""
        return a @ self.layers(self.encoded).sigmoid()


def _trained(train: Tensor, seconds: float, seed: int) -> tuple[dict[str, GradientLearner], dict[str, int]]:
    """Return the learned starts of a field, each trained on 8 views of a head, and their outer steps."""
    a, pixels = torch.from_numpy(projections(8)).float(), torch.eye(SIZE * SIZE)
    few = pixels[:: SIZE // 4]

    def sample(rng: np.random.Generator) -> Task:
        head = train[rng.integers(len(train)), :, None]
        return Task((a, a @ head), (few, few @ head))

    def of(learner: Callable[..., Any], **settings: Any) -> GradientLearner:
        torch.manual_seed(seed)
        return learner(Field(), rule=Adam(2e-3, beta1=0.9), steps=8, route="vmap", **settings)

    ways = {
        "MAML, a field": (of(MAML), Training(meta_batch=2, lr=1e-3, schedule="cosine", seed=seed, clip_norm=1.0)),
        "Reptile, a field": (
            of(Reptile),
            Training(meta_batch=2, optimizer="sgd", lr=0.5, schedule="linear", seed=seed),
        ),
    }
    steps = {}
    for name, (learner, training) in ways.items():
        steps[name] = train_for(learner, sample, training, seconds / len(ways))  # type: ignore[arg-type]
        learner.eval()
    return {name: learner for name, (learner, _) in ways.items()}, steps


def _fits(learner: GradientLearner, a: Tensor, heads: Tensor, steps: Sequence[int]) -> Tensor:
    """Return the images after some numbers of steps on the views of each head, `[steps, heads, pixels]`."""
    pixels, found = torch.eye(SIZE * SIZE), []
    for some in heads.unsqueeze(-1).split(20):
        support, query = ((x.expand(len(some), -1, -1), x @ some) for x in (a, pixels))
        trace = learner.trace(Tasks(support, query), max(steps), after=list(steps))
        found.append(torch.stack(trace.outputs, 1).squeeze(-1))
    return torch.cat(found, 1)


def _score(a: Tensor, heads: Tensor) -> Callable[[GradientLearner, Sequence[int]], Sequence[float]]:
    def score(learner: GradientLearner, steps: Sequence[int]) -> Sequence[float]:
        return psnr(_fits(learner, a, heads, steps), heads).mean(1).tolist()

    return score
