"""RL²: a recurrent policy that learns a task by living through it, trained by policy gradients on whole trials."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace
from fastadapt.predictor import Predictor
from fastadapt.rl.experience import mean_over_steps
from fastadapt.rl.gathered import collectors_of
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.recurrent import RecurrentPolicy
from fastadapt.rl.tasks import warn_of
from fastadapt.rl.trials import Trials, gather_trials


class RL2(Learner):
    r"""Train a policy with a memory on trials: a few episodes of one task, one after another.

        loss = -mean_t( pi_theta(a_t | h_t) / pi_old(a_t | h_t) A_t )

    over all steps of the trials of a meta-batch. What MAML does by an update, the memory does while it acts: the return
    after `j` updates is that of the trial's episode number `j`. Train it with `PPO`.

    Args:
        model: the policy.
        test_steps: episodes of a trial but the first, in training and in evaluation.

    References:
        Duan, Schulman, Chen, Bartlett, Sutskever, Abbeel 2016, RL²: Fast Reinforcement Learning via Slow Reinforcement
        Learning (arXiv:1611.02779).
    """

    def __init__(self, model: RecurrentPolicy, *, test_steps: int = 1) -> None:
        super().__init__()
        check_steps(test_steps, "test_steps")
        self.model, self.loss = model, PolicyGradient()
        self.test_steps, self.norm = test_steps, "running"

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the length of a trial."""
        return {**super().signature(), "steps": self.test_steps}

    def gather(self, tasks: MetaBatch) -> "GatheredTrials":
        """Live through the trials of a meta-batch."""
        supports, _ = collectors_of(tasks)
        trials = gather_trials(supports, self.model, self.test_steps + 1)
        each = trials.returns.unflatten(0, (len(supports), -1)).nanmean(1)
        broken = torch.full((len(supports),), trials.nonfinite / len(supports))
        steps = trials.alive.sum(1).unflatten(0, (len(supports), -1)).sum(1)
        metrics = {"return": each[:, -1], "return before": each[:, 0], "environment steps": steps}
        return GatheredTrials(trials, metrics | {"episodes not finite": broken})

    def _ratio(self, trials: Trials) -> tuple[Tensor, Any]:
        answers: Any = self.model(trials.inputs)[0]
        return (answers.log_prob(trials.actions) - trials.behaviour.log_prob(trials.actions)).exp(), answers

    def clipped(self, gathered: "GatheredTrials", clip: float, inner_kl: float) -> Tensor:
        """Return PPO's objective of every task, `[T]`; there is no policy before adaptation to hold."""
        trials = gathered.trials
        ratio, _ = self._ratio(trials)
        worse = torch.minimum(ratio * trials.advantages, ratio.clamp(1 - clip, 1 + clip) * trials.advantages)
        return -_of_tasks(worse, trials.alive, len(gathered.metrics["return"]))

    def divergence(self, gathered: "GatheredTrials") -> Tensor:
        """Return `mean_t KL(pi_old || pi_theta)` of every task, `[T]`."""
        trials = gathered.trials
        _, answers = self._ratio(trials)
        return _of_tasks(trials.behaviour.kl(answers), trials.alive, len(gathered.metrics["return"]))

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the surrogate of a meta-batch; its `backward()` gives the policy gradient."""
        gathered = self.gather(tasks)
        losses = self.clipped(gathered, 1.0, 0.0)
        return Outcome(losses.mean(), losses, gathered.metrics)

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Refuse: the memory is no weights.

        Raises:
            TaskError: always.
        """
        raise TaskError(
            "a policy with a memory adapts while it acts, and leaves no adapted weights to be kept; evaluate the run, "
            "or call trace(tasks) for the returns of its episodes"
        )

    def trace(
        self,
        tasks: MetaBatch,
        steps: int | None = None,
        norm: Norm | None = None,
        after: Sequence[int] | None = None,
    ) -> Trace:
        """Return the returns of episodes 0, 1, ..., `steps` of a trial; the column of losses is minus them."""
        k = self.test_steps if steps is None else steps
        check_steps(k)
        wanted = list(check_after(after, k))
        supports, _ = collectors_of(tasks)
        with torch.no_grad():
            trials = gather_trials(supports, self.model, wanted[-1] + 1)
        warn_of(torch.tensor([trials.nonfinite]), supports)
        returns = trials.returns.unflatten(0, (len(supports), -1)).nanmean(1)[:, wanted]
        return Trace(-returns, {"return": returns}, [])


class GatheredTrials:
    """Hold the trials of a meta-batch, and the metrics of each task, `[T]`."""

    def __init__(self, trials: Trials, metrics: dict[str, Tensor]) -> None:
        self.trials, self.metrics = trials, metrics


def _of_tasks(values: Tensor, alive: Tensor, tasks: int) -> Tensor:
    """Return the mean over the steps of each task's trials."""
    return mean_over_steps(values.unflatten(0, (tasks, -1)), alive.unflatten(0, (tasks, -1)), axes=2)
