"""P>M>F: a pretrained backbone, meta-trained as a prototypical network, fine-tuned in each task (Hu et al. 2022)."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Trace
from fastadapt.losses import Loss
from fastadapt.methods.augment import colour_and_shift
from fastadapt.methods.episodes import episodes_of, support_of
from fastadapt.methods.features import check_norm
from fastadapt.methods.fitted import Fitted
from fastadapt.methods.frozen import FrozenLearner
from fastadapt.methods.judged import judged
from fastadapt.predictor import Predictor
from fastadapt.tasks import SampleFunction, Task, TaskSource, as_support, draw_batch

Augment = Callable[[Tensor, torch.Generator], Tensor]


class PMF(FrozenLearner):
    r"""Compare with class means by their cosine, train the backbone for that, and go on with it in each task.

        c_k = mean_{j: y_j = k} z(x_j),      z(x) = f(x) / ||f(x)||,      s_k(x) = scale cos(z(x), c_k)

    Stage one, *pretrained*: `f` is what others have trained, any module. Stage two, *meta-trained*: `meta_train` steps
    down the loss of the queries by `f` and `scale`; as published by SGD with momentum at 5e-5 and a cosine. Stage
    three, *fine-tuned*: in a new task `k` steps of Adam on a copy of `f`, with augmented copies of the support samples
    as queries, and prototypes of the samples as they are, made anew at each step. With `test_steps=0` or `lr=0` the
    third stage is left out; `choose_rate` says by validation tasks whether it helps.

    The backbone runs in evaluation mode throughout, batch norm by its averages, so that no answer depends on other
    queries. The same support set always gives the same predictor. The public code averages features before they are
    brought to length 1, and adds a number to all cosines, which changes no probability.

    Args:
        model: the backbone `f`, any module with parameters that gives features `[n, ...]`; they are flattened. What is
            frozen of it stays so, but if all of it is, as `find_backbone` gives it, all of it is trained.
        loss: on the outputs; default cross-entropy.
        scale: of the cosines at the start, > 0; learned.
        test_steps: steps of fine-tuning k in `adapt` and evaluation; the paper takes 40 to 100 in a foreign domain.
        lr: their rate, >= 0.
        augment: `augment(x, generator)`, from support samples to pseudo-queries; default other colours and places.

    Raises:
        ConfigError: for a setting outside its range, or a backbone without parameters.

    Example:
        >>> learner = PMF(nn.Linear(4, 3), test_steps=2, augment=lambda x, generator: x + 0.1)
        >>> learner.adapt((torch.randn(6, 4), torch.arange(6) % 2))(torch.randn(5, 4)).shape
        torch.Size([5, 2])

    References:
        Hu, Li, Stuehmer, Kim, Hospedales 2022, Pushing the Limits of Simple Pipelines for Few-Shot Learning
        (arXiv:2204.07305), and its public code.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        scale: float = 10.0,
        test_steps: int = 0,
        lr: float = 1e-3,
        augment: Augment = colour_and_shift,
    ) -> None:
        super().__init__(model, loss, unit=True, frozen=False)
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale must be a number > 0, got {scale!r}")
        if not 0 <= lr < math.inf:
            raise ConfigError(f"lr must be a number >= 0, got {lr!r}")
        check_steps(test_steps)
        floating = [p for p in self.model.parameters() if p.is_floating_point()]
        if not floating:
            raise ConfigError(
                f"{type(model).__name__} has no parameters that could be trained; give a torch module, or choose a "
                "head on its features such as NearestCentroid"
            )
        if not any(parameter.requires_grad for parameter in floating):
            for parameter in floating:
                parameter.requires_grad_(True)  # a backbone that was looked up comes frozen as a whole
        self.scale = nn.Parameter(floating[0].new_tensor(scale).detach())
        self.test_steps, self.lr, self.augment = test_steps, lr, augment

    def signature(self) -> dict[str, Any]:
        """Return the facts of `FrozenLearner.signature`, with those of fine-tuning."""
        return {**super().signature(), "test_steps": self.test_steps, "lr": self.lr}

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return the directions of the class means, a row for each class."""
        rows = F.normalize(F.one_hot(y, ways).to(features.dtype).T @ features, dim=1)
        return Fitted(self.scale * rows, rows.new_zeros(ways), torch.arange(ways, device=y.device))

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return the fine-tuned backbone and its head in one module, see `Learner.adapt`."""
        *_, last = self.adapting(support, steps, norm)
        return last

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the adapted module after 0, 1, ..., `steps` steps of fine-tuning."""
        support = as_support(support)
        if (k := self._count(steps, rate)) == 0:
            yield super().adapt(support, 0, norm)
            return
        x, y, _ = support_of(support, type(self).__name__)
        for twin in self._tuned(x, y, k, rate):
            yield FrozenLearner.adapt(twin, (x, y), 0, norm)

    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs on the queries after 0, 1, ..., `steps` steps of fine-tuning."""
        asked = self.test_steps if steps is None else steps
        check_steps(asked)
        check_after(after, asked)
        if (k := self._count(asked)) == 0:
            return super().trace(tasks, 0, norm)
        check_norm(norm, type(self).__name__)
        columns = range(k + 1) if after is None else sorted(set(after))
        losses, metrics, outputs = [], [], []
        for episode in episodes_of(tasks, type(self).__name__, lambda x, y: (x, y)):
            task = Task((episode.x, episode.y), (episode.xq, episode.yq))
            found = []
            for step, twin in enumerate(self._tuned(episode.x, episode.y, k)):
                if step in columns:
                    with torch.no_grad():
                        found.append(twin._answers(task)[1][0])
            rows = [judged(self.loss, self.model, output, episode) for output in found]
            losses.append(torch.stack([loss.detach() for loss, _ in rows]))
            metrics.append({name: torch.stack([each[name] for _, each in rows]) for name in rows[0][1]})
            outputs.append(torch.stack(found))
        return Trace(torch.stack(losses), {n: torch.stack([m[n] for m in metrics]) for n in metrics[0]}, outputs)

    def _count(self, steps: int | None, rate: float | None = None) -> int:
        k = self.test_steps if steps is None else steps
        check_steps(k)
        return k if (self.lr if rate is None else rate) > 0 else 0

    def _tuned(self, x: Tensor, y: Tensor, steps: int, rate: float | None = None) -> Iterator["PMF"]:
        """Yield one copy again and again, after 0, 1, ..., `steps` steps of fine-tuning."""
        twin = copy.deepcopy(self).eval()
        trained = [p for p in twin.model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.lr if rate is None else rate)
        generator = torch.Generator().manual_seed(0)
        yield twin
        for _ in range(steps):
            with torch.enable_grad():
                loss = twin(Task((x, y), (self.augment(x, generator), y))).loss
            for parameter, grad in zip(trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
                parameter.grad = grad
            optimizer.step()
            yield twin


def choose_rate(
    learner: PMF,
    source: TaskSource | SampleFunction,
    rates: Sequence[float] = (0.0, 1e-4, 1e-3, 1e-2),
    *,
    steps: int = 40,
    tasks: int = 5,
    seed: int = 2,
) -> dict[float, float]:
    """Give a learner the rate of fine-tuning that serves it best on a few validation tasks; 0 stands for none.

    Args:
        learner: the learner; its `lr` and `test_steps` are set.
        source: where tasks are from, of which the stream "val" is taken.
        rates: what is tried.
        steps: of fine-tuning.
        tasks: how many tasks; the paper takes 3 to 5.
        seed: of these.

    Returns:
        Rate -> accuracy; the smallest of the best was taken.
    """
    if not rates or tasks < 1:
        raise ConfigError(f"a rate is chosen among at least one on at least one task, got {list(rates)} and {tasks}")
    drawn = draw_batch(source, seed=seed, split="val", indices=range(tasks))
    found = {}
    for rate in sorted(rates):
        learner.lr = rate
        found[rate] = float(learner.trace(drawn, steps if rate else 0).metrics["accuracy"][:, -1].mean())
    learner.lr, learner.test_steps = max(found, key=lambda rate: found[rate]), steps
    return found
