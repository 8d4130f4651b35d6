"""Several outer steps of each process on its own tasks, and then one mean of their weights: less is sent."""

import itertools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.inner.first_order import FirstOrder
from fastadapt.learner import Learner, Outcome
from fastadapt.methods.reptile import Reptile
from fastadapt.ranks import Ranks
from fastadapt.tasks import Tasks
from fastadapt.training.captured import captured_where_it_can_be
from fastadapt.training.outer_step import Late, Stepped, outer_step
from fastadapt.training.settings import Training
from fastadapt.training.sharded import interleaved


class LocalSteps:
    r"""Take outer steps in each process alone, and average the weights after every K of them.

        phi_r^0     = phi
        phi_r^{j+1} = phi_r^j - epsilon g(phi_r^j; the n_r tasks of process r in meta-batch j)         j = 0 .. K-1
        phi         <- sum_r (n_r / N) phi_r^K

    **With K > 1 this is another algorithm** than that of one process: each of the K gradients is taken where one
    process has come to alone, from its part of the meta-batch. (With K = 1 and SGD the mean of the weights is the step
    along the mean gradient, which `ShardedStep` takes.) Running moments are averaged with the weights. A process whose
    numbers are not finite leaves out its own step alone, which then counts as skipped.

    Between two means the processes know nothing of each other, so nothing is judged, logged or written there.

    Args:
        learner: the learner, whose weights become those of the first process.
        ranks: the processes.
        training: the settings, `local_steps` among them.
        optimizer: the outer optimizer.

    Raises:
        ConfigError: for a learner or an optimizer where the mean of weights is not sound.

    References:
        Stich 2019, Local SGD Converges Fast and Communicates Little (arXiv:1805.09767); Douillard et al. 2023, DiLoCo
        (arXiv:2311.08105).
    """

    def __init__(self, learner: Learner, ranks: Ranks, training: Training, optimizer: torch.optim.Optimizer) -> None:
        check_sound(learner, training, optimizer)
        self.ranks = ranks
        self.share = len(ranks.part(range(training.meta_batch))) / training.meta_batch
        self._take = captured_where_it_can_be(outer_step, optimizer)
        self._round: list[tuple[Stepped, dict[int, bool]]] = []
        for tensor in tensors_of(learner):
            dist.broadcast(tensor, src=0)

    def __call__(
        self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training
    ) -> Stepped:
        """Take one step; `tasks` are those of this process. The last step of a round brings all together."""
        taken = self._take(learner, tasks, optimizer, training)
        told: dict[int, bool] = {}  # once the round is over
        late = Stepped(detached(taken.outcome), Late(lambda: told[0]), taken.gradient, taken.facts)
        self._round.append((late, told))
        told[1] = bool(taken.moved)
        if len(self._round) < training.local_steps:
            return late
        self._meet(learner)
        return Stepped(late.outcome, told[0], late.gradient, late.facts)

    def _meet(self, learner: Learner) -> None:
        """Average the weights; let every step of the round be that of all processes."""
        floating = [t for t in tensors_of(learner) if t.is_floating_point() or t.is_complex()]
        for _, same in itertools.groupby(sorted(floating, key=lambda t: str(t.dtype)), key=lambda t: t.dtype):
            some = list(same)
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            self.ranks.mean([flat], self.share)
            for tensor, mean in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(mean.view_as(tensor))
        own = [({"": late.outcome.losses, **late.outcome.metrics}, told[1]) for late, told in self._round]
        everyone = self.ranks.gathered([({name: v.cpu() for name, v in seen.items()}, moved) for seen, moved in own])
        for (late, told), each in zip(self._round, zip(*everyone, strict=True), strict=True):
            told[0] = all(moved for _, moved in each)
            merged = {name: interleaved([seen[name] for seen, _ in each]) for name in each[0][0]}
            losses = merged.pop("")
            late.outcome.loss, late.outcome.losses, late.outcome.metrics = losses.mean(), losses, merged
        self._round = []


def detached(outcome: Outcome) -> Outcome:
    """Return an outcome without its graph and its outputs, which a round would keep."""
    metrics = {name: value.detach() for name, value in outcome.metrics.items()}
    return Outcome(outcome.loss.detach(), outcome.losses.detach(), metrics)


def tensors_of(learner: Learner) -> list[Tensor]:
    """Return the parameters and buffers of a learner, each once, without a graph.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> [tuple(tensor.shape) for tensor in tensors_of(MAML(MLP(1, (), 2)))]
        [(2, 1), (2,)]
    """
    return [tensor.detach() for tensor in itertools.chain(learner.parameters(), learner.buffers())]


def check_sound(learner: Learner, training: Training, optimizer: torch.optim.Optimizer) -> None:
    """Refuse local steps where a mean of weights is not all that processes have to tell each other.

    Raises:
        ConfigError: unless the method is of first order and keeps no state between tasks, and the optimizer is SGD
            without momentum, whose steps leave nothing but weights.
    """
    leave = f"leave training.local_steps at 1, got {training.local_steps}"
    kind: Any = getattr(learner, "differentiation", None)
    if not isinstance(learner, Reptile) and not isinstance(kind, FirstOrder):
        raise ConfigError(
            f"{type(learner).__name__} is no method whose outer steps may be taken apart: Reptile, FOML and "
            f"meta_gradient='first_order' are; choose one of them, or {leave}"
        )
    if isinstance(learner, Reptile) and learner.inner_state != "reset":
        raise ConfigError(
            f"inner_state={learner.inner_state!r} hands the inner rule's state from task to task, and processes that "
            f"step apart have one each; take inner_state='reset', or {leave}"
        )
    moves = isinstance(optimizer, torch.optim.SGD) and not any(group["momentum"] for group in optimizer.param_groups)
    if not moves:
        raise ConfigError(
            f"local steps average weights alone, and {type(optimizer).__name__} keeps moments of each process; take "
            f"training.optimizer='sgd' without momentum, or {leave}"
        )
