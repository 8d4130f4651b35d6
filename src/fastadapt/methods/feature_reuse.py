"""How much of a meta-learned network is reused as it is: NIL, layers that stay at test, and features before and after.

Raghu, Raghu, Bengio, Vinyals 2020, Rapid Learning or Feature Reuse? (arXiv:1909.09157), asked this of MAML.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.layers.norm import RunningMoments
from fastadapt.learner import Learner, MetaBatch
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.matching import MatchingNet
from fastadapt.methods.protomaml import ProtoMAML
from fastadapt.nets.nearest import headless
from fastadapt.selection import Selection, select
from fastadapt.tasks import as_groups, first_tensor


class NIL(MatchingNet):
    """Vote by cosine with the features of a trained network, see `nil`, which makes it."""


def nil(learner: Learner) -> NIL:
    r"""Return the test without an inner loop (NIL) of a learner that was trained with one, as MAML or ANIL.

        s_c(x) = sum_{j: y_j = c} cos(f(x), f(x_j))

    where `f` is the network without its head: the head is dropped, nothing is adapted, and every support sample votes
    for its class by its similarity.

    Args:
        learner: trained by gradient steps; its network ends with a linear layer. It is copied.

    Raises:
        ConfigError: for a learner without an inner loop.
        SelectionError: for a network that does not end with a linear layer.

    Example:
        >>> from fastadapt import MAML, MLP, CrossEntropy
        >>> test = nil(MAML(MLP(4, (8,), 5), CrossEntropy(), adapt="head"))
        >>> test.adapt((torch.randn(4, 4), torch.arange(4) % 2))(torch.randn(3, 4)).shape    # of any number of classes
        torch.Size([3, 2])

    References:
        Raghu, Raghu, Bengio, Vinyals 2020 (arXiv:1909.09157), section 5.
    """
    _check(learner, "NIL drops the head of a network that")
    assert isinstance(learner, GradientLearner)
    has_no_head = isinstance(learner, ProtoMAML)
    body = copy.deepcopy(learner.model) if has_no_head else headless(learner.model)
    norm = "running" if learner.norm == "per_step" else learner.norm  # before any step, whose averages are row 0
    loss: Any = copy.deepcopy(learner.loss)
    test: Any = NIL(body, loss, votes="sum", norm=norm)
    if test.running is not None and learner.running is not None:
        _copy_moments(learner.running, test.running)
    return test.eval()


def _copy_moments(of: RunningMoments, to: RunningMoments) -> None:
    own = of.tensors()
    for name, value in to.tensors().items():
        value[0] = own[name.removeprefix("embedding.")][0]


def keeping(learner: GradientLearner, still: Selection) -> GradientLearner:
    """Return a copy of a learner whose inner loop leaves the named parameters as they are, to be tested so.

    Args:
        learner: trained with all that it adapts.
        still: which parameters stay, see `fastadapt.select`: `("blocks.0.*", "blocks.1.*")` for the first two blocks.

    Raises:
        SelectionError: if nothing is left to adapt, or a pattern matches no parameter.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> keeping(MAML(MLP(1, (4, 4), 1)), "body.0.*").adapted
        ('body.2.weight', 'body.2.bias', 'head.weight', 'head.bias')
    """
    _check(learner, "layers stay in an inner loop that")
    stay = set(select(learner.model, still))
    twin = copy.deepcopy(learner)
    twin.selection = [name for name in learner.adapted if name not in stay]
    select(twin.model, twin.selection)
    return twin


def cka(a: Tensor, b: Tensor) -> float:
    r"""Return how alike two representations of the same samples are, in [0, 1]: linear centred kernel alignment.

        ||B^T A||_F^2 / (||A^T A||_F ||B^T B||_F),      columns centred

    Args:
        a: `[n, ...]`, one row for each sample.
        b: `[n, ...]`, of any width.

    Returns:
        1 for representations that are rotations and multiples of one another; not a number where one is constant.

    Example:
        >>> x = torch.randn(20, 3)
        >>> round(cka(x, 2 * x.flip(1)), 4)
        1.0

    References:
        Kornblith, Norouzi, Lee, Hinton 2019 (arXiv:1905.00414).
    """
    a, b = (each.flatten(1).double() - each.flatten(1).double().mean(0) for each in (a, b))
    # by the kernels of the samples, which are few: features may be thousands
    k, l = a @ a.T, b @ b.T  # noqa: E741
    return float((k * l).sum() / (k.norm() * l.norm()))


@torch.no_grad()
def similarity(learner: Learner, tasks: MetaBatch, layers: Sequence[str]) -> dict[str, float]:
    """Return for each layer how alike what it gives on the queries is before and after adaptation: the mean CKA.

    Args:
        learner: whose inner loop changes the network.
        tasks: tasks with several queries each.
        layers: names of parts of the network that return a tensor, such as `("blocks.0", "blocks.3", "head")`.

    Raises:
        ConfigError: for a learner without an inner loop, or a part that there is not.

    Example:
        >>> from fastadapt import MAML, MLP, SGD, Sinusoid, draw
        >>> learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), adapt="head")
        >>> found = similarity(learner, draw(Sinusoid(), seed=0, split="test", indices=range(3)), ["body", "head"])
        >>> round(found["body"], 6)
        1.0
    """
    _check(learner, "features change in an inner loop that")
    parts = dict(learner.model.named_modules())  # type: ignore[union-attr]
    unknown = [name for name in layers if name not in parts]
    if unknown:
        known = [name for name in parts if name]
        raise ConfigError(f"the network has no part {unknown[0]!r}; it has {', '.join(known[:12])}")
    found: dict[str, list[float]] = {name: [] for name in layers}
    for group in as_groups(tasks):
        for i in range(len(group)):
            support = tuple(leaf[i] for leaf in group.support)
            x = first_tensor(group.query)
            assert x is not None
            seen = [_seen(learner.adapt(support, steps), x[i], layers) for steps in (0, None)]
            for name in layers:
                found[name].append(cka(seen[0][name], seen[1][name]))
    return {name: sum(values) / len(values) for name, values in found.items()}


def _seen(predictor: Any, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return what the parts of an adapted network give for the input `x`."""
    model: nn.Module = getattr(predictor.model, "backbone", predictor.model)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(part: nn.Module, given: Any, output: Tensor) -> None:
            seen[name] = output.detach().clone()

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        predictor(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _check(learner: Learner, why: str) -> None:
    if not isinstance(learner, GradientLearner):
        raise ConfigError(f"{why} was trained by gradient steps, and {type(learner).__name__} takes none; choose MAML")
