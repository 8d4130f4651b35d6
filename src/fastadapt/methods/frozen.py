"""What the heads on frozen features share: a backbone that stays as it is, run once for each sample of a task."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.inner.unchanged import unchanged
from fastadapt.judging.loss_values import called
from fastadapt.judging.not_finite import not_finite
from fastadapt.layers.copied import copied
from fastadapt.layers.norm import Norm
from fastadapt.layers.supported import as_module
from fastadapt.layers.turns import turn
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace
from fastadapt.losses import CrossEntropy, Loss, as_loss
from fastadapt.methods.episodes import Episode, episodes_of, support_of
from fastadapt.methods.features import check_averages, check_norm, features_of
from fastadapt.methods.fitted import Fitted
from fastadapt.methods.judged import one_column, outcome_of
from fastadapt.nets.headed import Headed, answers, transformed
from fastadapt.predictor import Predictor
from fastadapt.tasks import as_support


class FrozenLearner(Learner):
    r"""Leave a backbone as it is and fit a head to its features in each task, `s(x) = h(t(f(x)); {(t(f(x_j)), y_j)})`.

        t(z) = z - centre,    or    (z - centre) / ||z - centre||    with `unit`

    A method says how a head is fitted, `fit`. Frozen means: the backbone's parameters are marked as such on the module
    that was given and get no gradient, it runs in evaluation mode, batch norm by its averages, dropout off, and it is
    bit for bit the same afterwards. It sees each sample of a task once. There are no inner steps, and a trace has one
    column. Tasks may have any number of classes; the outputs are as many as the largest label and one more, at least 2.

    Args:
        model: the backbone `f`, any module that gives features `[n, ...]` for samples `[n, ...]`; they are flattened.
        loss: of the outputs on the query; default cross-entropy.
        centre: `[d]`, what is taken from all features, such as `mean_feature` of training images; None takes nothing.
        unit: bring features to length 1.
        frozen: false lets the backbone's parameters require a gradient as they do, for heads it passes through.

    Raises:
        ConfigError: for a setting outside its range, or a backbone whose batch norm keeps no averages.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        centre: Tensor | None = None,
        unit: bool = False,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        self.model = as_module(model)
        self.loss = CrossEntropy() if loss is None else as_loss(loss)
        self.norm: Norm = "running"
        self.test_steps = 0
        self.unit, self.frozen = unit, frozen
        if centre is not None and (not isinstance(centre, Tensor) or centre.dim() != 1):
            got = f"shape {tuple(centre.shape)}" if isinstance(centre, Tensor) else f"a {type(centre).__name__}"
            raise ConfigError(
                f"centre must be one tensor of features, (d,), got {got}; give mean_feature(model, images)"
            )
        self.centre: Tensor | None
        self.register_buffer("centre", None if centre is None else centre.detach().clone())
        check_averages(self.model)
        if frozen:
            self.model.requires_grad_(False)

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the head's."""
        head = {"unit": self.unit, "centred": self.centre is not None, "frozen": self.frozen}
        return {**super().signature(), **head, "losses": [called(self.loss)]}

    @abstractmethod
    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return the head of a support set.

        Args:
            features: `[S, d]`, transformed.
            y: `[S]`, class numbers 0..ways-1, each of which has a sample.
            ways: classes that have a sample.
        """

    # ---- the contract --------------------------------------------------------------------------

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss of the outputs on the queries."""
        episodes, outputs = self._answers(tasks)
        return outcome_of(self.loss, self.model, outputs, episodes)

    @torch.no_grad()
    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs on the queries; there are no inner steps, and one column."""
        check_steps(0 if steps is None else steps)
        check_after(after, 0 if steps is None else steps)
        check_norm(norm, type(self).__name__)
        return one_column(self(tasks))

    @torch.no_grad()
    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return backbone and head in one module, see `Learner.adapt`; `steps` change nothing."""
        if isinstance(steps, Tensor):
            raise TaskError("adapt takes the support set as one pair, and this is a second tensor; write adapt((x, y))")
        check_steps(0 if steps is None else steps)
        check_norm(norm, type(self).__name__)
        x, y, ways = support_of(as_support(support), type(self).__name__)
        with turn(self.model), unchanged((x, y), self.model):
            features = self.features(x)
            fitted = self._fitted(features, y, support)
            sizes = {"features": features.shape[1], "rows": len(fitted.weight), "ways": ways, "unit": self.unit}
            twin = copied(self.model).requires_grad_(False)
        network = Headed(twin, **sizes)
        centre = torch.zeros_like(features[0]) if self.centre is None else self.centre.to(features)
        network.put({**fitted.named(), "centre": centre})
        return Predictor(network, "running").eval()

    # ---- features ------------------------------------------------------------------------------

    def features(self, x: Tensor) -> Tensor:
        """Return what the backbone gives for samples `[n, ...]`, flattened and transformed, `[n, d]`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            found = features_of(self.model, x)
        if self.centre is not None and len(self.centre) != found.shape[1]:
            raise TaskError(
                f"centre has {len(self.centre)} numbers, and the backbone gives {found.shape[1]} for a sample; "
                "compute it with this backbone, mean_feature(model, images)"
            )
        return transformed(found, None if self.centre is None else self.centre.to(found), self.unit)

    def _answers(self, tasks: MetaBatch) -> tuple[list[Episode], list[Tensor]]:
        """Return the tasks in the given order, and the outputs on their queries."""
        episodes = episodes_of(tasks, type(self).__name__, lambda x, y: (x, y))
        with turn(self.model), unchanged([(e.x, e.xq) for e in episodes], self.model):
            found = self._together([part for episode in episodes for part in (episode.x, episode.xq)])
            outputs = []
            for episode, known, asked in zip(episodes, found[::2], found[1::2], strict=True):
                fitted = self._fitted(known, episode.y, (episode.x, episode.y))
                outputs.append(answers(asked, **fitted.named(), ways=episode.ways))
        return episodes, outputs

    def _together(self, sets: list[Tensor]) -> list[Tensor]:
        """Return the features of each set, those of one shape computed as one batch."""
        if len({(part.shape[1:], part.dtype) for part in sets}) > 1:
            return [self.features(part) for part in sets]
        return list(self.features(torch.cat(sets)).split([len(part) for part in sets]))

    def _fitted(self, features: Tensor, y: Tensor, support: Any) -> Fitted:
        """Return the head of a support set whose labels may have gaps; its rows have the labels that were given."""
        if not bool(torch.isfinite(features.detach()).all()):
            fault = not_finite(support, "support") or "the backbone's features of it are not finite"
            raise TaskError(f"{fault}: no head can be fitted to such a support set; leave these samples out")
        present, numbers = torch.unique(y, return_inverse=True)
        fitted = self.fit(features, numbers, len(present))
        return Fitted(fitted.weight, fitted.bias, present[fitted.labels], fitted.origin)
