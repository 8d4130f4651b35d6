"""The last linear layer of a network: what it sees are features, and class means are one way to fill it."""

import copy

import torch
from torch import Tensor, nn

from fastadapt.methods.compared import Compared
from fastadapt.nets.headed import Headed
from fastadapt.predictor import Predictor
from fastadapt.selection import head_names


def head_of(model: nn.Module) -> str | None:
    """Return the name of the network's last layer, if it is linear.

    Example:
        >>> head_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        '2'
    """
    owners = {name.rpartition(".")[0] for name in head_names(model)}
    name = owners.pop() if len(owners) == 1 else ""
    return name if name and isinstance(model.get_submodule(name), nn.Linear) else None


def featuriser(predictor: Predictor) -> Predictor | None:
    """Return a copy of a predictor that answers with what its head, or its comparison, sees; None without such."""
    twin = copy.deepcopy(predictor)
    if isinstance(twin.model, Compared):
        twin.model = twin.model.embedding
        return twin
    if isinstance(twin.model, Headed):
        twin.model = twin.model.backbone
        return twin
    name = head_of(predictor.model)
    if name is None:
        return None
    twin.model.set_submodule(name, nn.Identity())
    return twin


def nearest_mean(predictor: Predictor, support: tuple[Tensor, Tensor], seen: Tensor) -> Predictor:
    r"""Return a copy of a predictor whose head answers by the nearest class mean.

        logits_c = -|f - m_c|^2 / s  +  |f|^2 / s  =  (2 m_c / s) . f  -  |m_c|^2 / s

    The term `|f|^2` is the same for all classes, so a linear head says it all. `s` is the mean squared distance
    between two class means, which makes the probabilities independent of the features' scale.

    Args:
        predictor: of the network before any step.
        support: `(x, y)`.
        seen: the support's features, `[n, features]`.

    References:
        Snell, Swersky, Zemel 2017, Prototypical Networks (arXiv:1703.05175), for the linear form.
    """
    _, y = support
    ways = int(y.max()) + 1
    means = torch.stack([seen[y == c].mean(0) for c in range(ways)])
    squared = torch.cdist(means, means).square()
    scale = (squared.sum() / max(1, ways * (ways - 1))).clamp_min(1e-12)
    name = head_of(predictor.model)
    assert name is not None  # the method is not offered otherwise
    twin = copy.deepcopy(predictor)
    old = twin.model.get_submodule(name)
    assert isinstance(old, nn.Linear)
    # first weights would be drawn in vain, and from a generator that other threads use
    head = nn.Linear(old.in_features, ways, device="meta", dtype=old.weight.dtype).to_empty(device="cpu")
    with torch.no_grad():
        head.weight.copy_(2 * means / scale)
        head.bias.copy_(-means.square().sum(1) / scale)
    twin.model.set_submodule(name, head)
    return twin.eval()
