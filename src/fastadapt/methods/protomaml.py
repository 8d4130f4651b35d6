"""ProtoMAML: gradient steps from a head that is made of each task's prototypes (Triantafillou et al. 2020)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Params
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.layers.bound import Bound
from fastadapt.layers.norm import Norm, NormPlan
from fastadapt.learner import MetaBatch, Outcome, Trace
from fastadapt.losses import CrossEntropy, Loss
from fastadapt.methods.episodes import by_ways, support_of
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.maml import MAML
from fastadapt.methods.proto_loop import HEAD, ProtoLoop
from fastadapt.methods.step_affine import but_norms
from fastadapt.nets.headed import Headed
from fastadapt.predictor import Predictor, frozen_copy
from fastadapt.rules.rules import Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Tasks, as_support


class ProtoMAML(MAML):
    r"""Meta-learn an embedding from which a few steps on body and head suffice; the head is new in each task.

        c_k = mean_{j: y_j = k} f_theta(x_j),      W_k = 2 c_k,      b_k = -||c_k||^2
        (theta_i, W_i, b_i) = k steps down L(D_i^S) from (theta, W, b)
        loss = (1/T) sum_i L(D_i^Q; theta_i, W_i, b_i)

    Before any step the outputs have the softmax of prototypical networks, `softmax_k(-||f(x) - c_k||^2)`. The
    meta-gradient goes on from the head through the prototypes to theta, in first order too (fo-Proto-MAML), where
    only inner gradients are constants. Scales and shifts of batch norm are not adapted, and with `norm="support"` the
    queries are normalised by the moments of the support set after adaptation, through which the gradient passes.

    Tasks may have any number of classes. A class number that no support sample has is never the answer.

    Args:
        model: the embedding `f`, one of `fastadapt.nets` with `ways=None`; features are flattened.
        loss: on the outputs; default cross-entropy.
        rule: the inner update rule; default `SGD(0.01)`.
        steps: inner steps k in training, >= 0 (0 is prototypical networks).
        meta_gradient: "exact" or "first_order", or such an object.
        adapt: which parameters of the embedding adapt beside the head; those of batch norm never do.
        norm: the batch-norm mode; any but "per_step".
        inner_loss: the loss on the support where its scale differs; default `loss`.
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if `adapt` selects nothing.

    Example:
        >>> from fastadapt import MLP, SGD
        >>> learner = ProtoMAML(MLP(4, (8,), None), rule=SGD(0.1), steps=2)
        >>> learner.adapt((torch.randn(6, 4), torch.arange(6) % 3))(torch.randn(2, 4)).shape
        torch.Size([2, 3])

    References:
        Triantafillou et al. 2020, Meta-Dataset (arXiv:1903.03096), and its public code.
    """

    unchecked: ClassVar[tuple[str, ...]] = ("train", "trace", "adapt")  # the embedding's outputs are no classes
    pieced: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 5,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "support",
        inner_loss: Loss | None = None,
        test_steps: int | None = None,
        route: Route | Execution = "auto",
    ) -> None:
        if norm == "per_step":
            raise ConfigError("norm='per_step' is not for ProtoMAML, whose prototypes are no step; choose 'support'")
        super().__init__(
            model,
            CrossEntropy() if loss is None else loss,
            rule=rule,
            steps=steps,
            meta_gradient=meta_gradient,
            adapt=but_norms(model, adapt),
            norm=norm,
            inner_loss=inner_loss,
            test_steps=test_steps,
            route=route,
        )
        if self.meta_gradient not in ("exact", "first_order"):
            raise ConfigError(f"meta_gradient must be exact or first order in ProtoMAML, got {self.meta_gradient!r}")
        if self.rate_names or not isinstance(self.rule.lr, float | int | Tensor):
            raise ConfigError(
                "ProtoMAML makes its head anew in each task, and rates by name have none for it; give the rule one "
                "number"
            )

    def forward(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return the mean objective over the tasks, see `MAML.forward`."""
        return super().forward(by_ways(tasks, type(self).__name__), inner_lr)

    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs on the queries after 0, 1, ..., `steps` inner steps."""
        return super().trace(by_ways(tasks, type(self).__name__), steps, norm, after)

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return embedding and head adapted to a support set of any number of classes, see `Learner.adapt`."""
        return super().adapt(self._looked_at(support), steps, norm)

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the module after 0, 1, ..., `steps` inner steps, see `Learner.adapting`."""
        return super().adapting(self._looked_at(support), steps, norm, rate)

    def _looked_at(self, support: Any) -> Any:
        if not isinstance(support, Tensor):
            x, y, _ = support_of(as_support(support), type(self).__name__)
            return x, y
        return support

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        return self._test_batches(groups, self.steps)

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        """Return a row for each task, which is as long as the task has classes."""
        rows: dict[int, Tensor] = {}
        for group in groups:
            ways = max(2, int(group.support[1].max()) + 1)  # the same for all of the group
            rows |= {position: group.samples.new_zeros(ways) for position in group.positions}
        return {"ways": [rows[position] for position in sorted(rows)]}

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return ProtoLoop(self, state, plan.of(state["running"]), steps, {"support": support, "query": query, **extra})

    def _predictor(self, state: State, plan: NormPlan, params: Params, k: int, support: Any) -> Predictor:
        weight, bias = (params[name] for name in HEAD)
        labels = torch.arange(len(weight), device=weight.device)
        network = Headed(self.model, features=weight.shape[1], rows=len(weight), ways=len(weight))
        still = {"centre": torch.zeros_like(weight[0]), "origin": torch.zeros_like(weight[0])}
        network.put({"weight": weight, "bias": bias, "labels": labels, **still})
        own = {f"backbone.{name}": params[name] for name, _ in self.model.named_parameters()}
        buffers = dict(network.named_buffers())
        buffers |= {f"backbone.{name}": value for name, value in plan.buffers(state["buffers"], k).items()}
        with torch.no_grad():
            given = plan.query(lambda mine: Bound(network, own, buffers, mine)(support[0])).given
        beside = support[0] if plan.beside_support else None
        return Predictor(frozen_copy(network, own, buffers), plan.mode, given or [], beside).eval()
