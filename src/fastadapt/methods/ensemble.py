"""Several trained learners asked together: the mean of what they answer, each adapted by itself."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace
from fastadapt.methods.episodes import Episode
from fastadapt.methods.judged import judged
from fastadapt.predictor import Predictor
from fastadapt.tasks import as_groups


class Ensemble(Learner):
    r"""Answer with the mean output of learners that were trained already.

        s(x) = (1/M) sum_m s_m(x),      s_m the outputs of member m after its own adaptation

    MAML++ is published so: the five checkpoints with the best validation answer together, which by an issue of its
    public code alone adds about two per cent on mini-ImageNet. Never compare such a number with one of a single model;
    `fastadapt evaluate RUN --ensemble 5` gives its protocol a name of its own. It is not trained.

    Args:
        members: learners of one kind on one kind of task, at least two; they are kept as they are.

    Raises:
        ConfigError: for fewer than two, or members that differ in method, batch norm or steps.

    Example:
        >>> from fastadapt import MAML, MLP, Protocol, Sinusoid, evaluate
        >>> pair = Ensemble([MAML(MLP(1, (8,), 1)) for _ in range(2)])
        >>> len(evaluate(pair, Sinusoid(), Protocol(tasks=3, steps=2)).mean)
        3

    References:
        Antoniou, Edwards, Storkey 2019, How to Train Your MAML (arXiv:1810.09502), whose public code averages logits.
    """

    def __init__(self, members: Sequence[Learner]) -> None:
        super().__init__()
        if len(members) < 2:
            raise ConfigError(f"an ensemble has at least 2 members, got {len(members)}")
        kinds = {(type(member).__name__, member.norm, member.test_steps) for member in members}
        if len(kinds) > 1:
            told = "; ".join(f"{name}, norm {norm!r}, {steps} test steps" for name, norm, steps in sorted(kinds))
            raise ConfigError(f"the members of an ensemble are learners of one kind, and these differ: {told}")
        self.members = nn.ModuleList(members)
        self.norm: Norm = members[0].norm
        self.test_steps = members[0].test_steps
        self.loss: Any = members[0].loss  # type: ignore[attr-defined]

    def signature(self) -> dict[str, Any]:
        """Return the facts of the members."""
        return {**super().signature(), "members": [member.signature() for member in self._each()]}

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Refuse: an ensemble is not trained.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("an ensemble is not trained; train its members, or evaluate it as it is")

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return a module that answers with the mean of the adapted members, see `Learner.adapt`."""
        return Together([member.adapt(support, steps, norm) for member in self._each()])

    @torch.no_grad()
    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs of the mean outputs on the queries, after 0, 1, ..., `steps` inner steps.

        Raises:
            TaskError: for tasks whose outputs are not tensors, or whose query is no pair `(x, y)`.
        """
        groups = as_groups(tasks)
        traces = [member.trace(groups, steps, norm, after) for member in self._each()]
        means = [torch.stack(outputs).mean(0) for outputs in zip(*(trace.outputs for trace in traces), strict=True)]
        queries: dict[int, tuple[Tensor, Tensor]] = {}
        for group in groups:
            query = group.query
            if not (isinstance(query, (tuple, list)) and len(query) == 2 and all(isinstance(q, Tensor) for q in query)):
                raise TaskError("an ensemble needs queries (x, y) of two tensors; ask its members one by one")
            queries |= {position: (query[0][i], query[1][i]) for i, position in enumerate(group.positions)}
        if len(means) != len(queries):
            raise TaskError("an ensemble needs members that answer with a tensor; ask them one by one")
        losses, metrics = [], []
        model = getattr(self.members[0], "model", self.members[0])
        for outputs, (_, (x, y)) in zip(means, sorted(queries.items()), strict=True):
            rows = [judged(self.loss, model, output, Episode(x, y, x, y, 0)) for output in outputs]
            losses.append(torch.stack([loss for loss, _ in rows]))
            metrics.append({name: torch.stack([each[name] for _, each in rows]) for name in rows[0][1]})
        return Trace(torch.stack(losses), {name: torch.stack([m[name] for m in metrics]) for name in metrics[0]}, means)

    def _each(self) -> list[Learner]:
        return list(self.members)  # type: ignore[arg-type]


class Together(Predictor):
    """Answer with the mean of several predictors.

    Args:
        predictors: at least one, of the same outputs.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        super().__init__(nn.ModuleList(predictors), predictors[0].norm)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the mean output, `[n, ...]` for an input `[n, ...]`."""
        return torch.stack([predictor(*args, **kwargs) for predictor in self.model]).mean(0)  # type: ignore[union-attr]
