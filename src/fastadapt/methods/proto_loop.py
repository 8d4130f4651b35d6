"""The inner loop of ProtoMAML, which begins at a head that is made of the support set."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.inner.calculus import Calculus, Params
from fastadapt.inner.sweep import inner_product
from fastadapt.layers.bound import Bound, inside
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import NormPlan, Statistics
from fastadapt.methods.loop import Adapting, InnerLoop, State
from fastadapt.methods.one_pass import checked

HEAD = ("task:weight", "task:bias")
"""The head among the adapted parameters; no module can have such names."""
_BODY = "embedding."


class Prototyped(nn.Module):
    """Embed, and answer by a linear head that is bound with the parameters, `[n, ...] -> [n, N]`."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.training = embedding.training  # as nothing but its wrapping
        self.embedding = embedding
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(1, 1))
        self.register_buffer("bias", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return an output for each class."""
        return F.linear(checked(self.embedding(x), self.embedding).flatten(1), self.weight, self.bias)


class ProtoLoop(InnerLoop):
    """Begin at the head that is made of the prototypes of the support set.

    Args:
        learner: as in `InnerLoop`.
        state: as in `InnerLoop`.
        plan: as in `InnerLoop`.
        steps: as in `InnerLoop`.
        task: as in `InnerLoop`, with "ways", which is as long as there are classes.
    """

    def __init__(self, learner: Adapting, state: State, plan: NormPlan, steps: int, task: State) -> None:
        super().__init__(learner, state, plan, steps, task)
        self.body, self.of_body, self.ways = learner.model, self.layout, task["ways"].shape[-1]
        self.model = Prototyped(learner.model)
        losses = {
            name: part for name in ("loss", "inner_loss") if isinstance(part := getattr(learner, name), nn.Module)
        }
        self.layout = Layout(self.model, losses)
        self.support = task["support"]
        self.theta = {**self.theta, **self.head(self.fixed, self.theta)}

    def head(self, fixed: Any, theta: Params) -> Params:
        """Return weight `[N, d]` and bias `[N]` of the head that the prototypes make."""
        x, y = self.data(self.support, fixed, "support")
        params = {**self.constants(0)["params"], **fixed["params"], **theta}
        buffers = self.constants(0)["buffers"]
        body = Bound(self.body, params, buffers, self.plan.support(), layout=self.of_body)
        with inside(body).in_place():
            features = checked(body(x), self.body).flatten(1)
        members = (y.unsqueeze(1) == torch.arange(self.ways, device=y.device)).to(features.dtype)
        counts = members.sum(0).unsqueeze(1)
        means = members.T @ features / counts.clamp(min=1)
        absent = torch.finfo(features.dtype).min / 2
        bias = torch.where(counts.squeeze(1) > 0, -means.square().sum(1), absent)
        return dict(zip(HEAD, (2 * means, bias), strict=True))

    def before(self, calculus: Calculus, theta: Params, fixed: Any) -> tuple[Params, Any]:
        """Return the gradient to the meta-parameters: that to the head goes on through the prototypes."""
        wanted = {name: theta[name] for name in HEAD}
        body = {name: p for name, p in self.theta.items() if name not in HEAD}

        def pulled(at: tuple[Params, Any]) -> tuple[Tensor, tuple[()]]:
            return inner_product(wanted, self.head(at[1], at[0])), ()

        (more, rest), _, _ = calculus.outer(pulled, (body, self.fixed))
        total = {name: theta[name] + more[name] for name in body}
        return total, {part: {name: g + rest[part][name] for name, g in fixed[part].items()} for part in fixed}

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the embedding and the head with these parameters."""
        params = {**constants["params"], **fixed["params"], **theta}
        head = {name.removeprefix("task:"): params.pop(name) for name in HEAD}
        named = {self._inside(name): value for name, value in params.items()}
        buffers = {self._inside(name): value for name, value in constants["buffers"].items()}
        return Bound(self.model, named, {**buffers, **head}, statistics, layout=self.layout, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the inner objective, and the moments to feed to the running averages."""
        loss, fed = super().support_loss(fixed, constants, theta, batch)
        return loss, _of_the_body(fed)

    def _judged(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        loss, report = super()._judged(*args, **kwargs)
        return loss, {**report, "fed": _of_the_body(report["fed"])}

    def _inside(self, name: str) -> str:
        return name if ":" in name else f"{_BODY}{name}"


def _of_the_body(fed: Any) -> Any:
    return {name.removeprefix(_BODY): seen for name, seen in fed.items()}
