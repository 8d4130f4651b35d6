"""Starts that come of ordinary training: one network for all signals, and a body that signals share."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastadapt.data.fields.fields import Fields
from fastadapt.methods.pretrain import Pretrain
from fastadapt.nets.siren import Siren
from fastadapt.showcases.showcase import ShowSettings
from fastadapt.showcases.stages import Stages
from fastadapt.showcases.training import Schooling, schooled
from fastadapt.training.settings import Training

PARTS = (0.5, 1.0)
"""After which parts of a training its weights may be the start: more is not always better."""


def joint_start(
    settings: ShowSettings, stages: Stages, net: nn.Module, source: Fields, share: float, name: str
) -> tuple[dict[str, nn.Module], Schooling]:
    """Return a network that was trained on all signals at once."""
    learner = Pretrain(net)
    training = Training(meta_batch=4, lr=5e-4, clip_norm=1.0, seed=settings.seed)
    return {"joint": net}, schooled(settings, stages, name, learner, source, training, share)


def shared_body(
    settings: ShowSettings,
    stages: Stages,
    kinds: Mapping[float, Siren],
    signals: Tensor,
    points: int,
    share: float,
) -> tuple[dict[str, nn.Module], Schooling]:
    """Return bodies that some signals share, each with a last layer of its own in training, under the mean of those.

        f_p(x) = W_p h(x) + b_p,      the start: h, with the mean of W_p and b_p over the signals p

    Args:
        settings: of the showcase.
        stages: of the showcase.
        kinds: networks by their frequency, each trained for an equal part of the time.
        signals: `[P, n_1, ..., n_d, C]`.
        points: of a batch.
        share: of the minutes, for all of them.

    References:
        Vyas et al. 2024, STRAINER (arXiv:2409.09566).
    """
    count, channels = len(signals), signals.shape[-1]
    beside = signals.movedim(0, -2).flatten(-2)[None]  # one signal that has the numbers of all
    source = Fields(beside, points=min(2 * points, beside[0, ..., 0].numel()), query="same", channels=count * channels)
    training = Training(meta_batch=1, lr=1e-3, clip_norm=1.0, seed=settings.seed)
    found: dict[str, nn.Module] = {}
    steps, seconds = 0, 0.0
    for w0, net in kinds.items():
        wide = copy.deepcopy(net)
        torch.manual_seed(settings.seed)
        bound = float(net.head.weight.detach().abs().max())
        wide.head = nn.Linear(net.head.in_features, count * channels)
        nn.init.uniform_(wide.head.weight, -bound, bound)
        nn.init.zeros_(wide.head.bias)
        learner = Pretrain(wide)
        for part in PARTS:
            name = f"shared body w0 {w0:g}"
            spent = schooled(settings, stages, name, learner, source, training, share / len(kinds), part)
            found[f"w0 {w0:g} after {spent.steps} steps"] = _under_mean_head(net, wide, count)
            steps, seconds = steps + (spent.steps if part == 1 else 0), seconds + spent.seconds
    return found, Schooling(steps, round(seconds, 1))


def _under_mean_head(net: Siren, wide: Siren, count: int) -> Siren:
    start = copy.deepcopy(net)
    start.body.load_state_dict(wide.body.state_dict())
    with torch.no_grad():
        start.head.weight.copy_(wide.head.weight.unflatten(0, (count, -1)).mean(0))
        start.head.bias.copy_(wide.head.bias.unflatten(0, (count, -1)).mean(0))
    return start.to(wide.head.weight.device)
