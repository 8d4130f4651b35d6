"""MAML for reinforcement learning: an initial policy from which one policy-gradient step on a few episodes suffices."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.calculus import Params, detached
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome, Trace
from fastadapt.rl.e_maml import worth
from fastadapt.rl.experience import Experience, mean_over_steps
from fastadapt.rl.gathered import Gathered, collectors_of
from fastadapt.rl.policies import Policy
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.side_by_side import SideBySide
from fastadapt.rl.tasks import gather, warn_of
from fastadapt.rules.rules import SGD, Rule


class MetaPolicy(SideBySide):
    r"""Meta-learn the initial parameters of a policy (MAML's Algorithm 3).

        theta_i^{j+1} = theta_i^j - alpha grad L(pi_{theta_i^j}; D_i^j),    D_i^j: F episodes of pi_{theta_i^j}
        loss          = (1/T) sum_i -mean_t( pi_{theta_i^k} / pi_old (a_t|s_t) A_t )   on F episodes of pi_old

    with `pi_old` the adapted policy that lived through them, so that the value is 0 for normalised advantages and the
    gradient is MAML's. Every step's episodes enter the graph; how theta changes what is sampled does not: that is MAML
    as published, and biased. An inner objective such as `PolicyGradient("likelihood_ratio")` counts it in the
    curvature, as if there were any number of episodes before adaptation; E-MAML counts it for those that there are,

        loss = ... - (1/T) sum_i worth_i sum_j sum_t log pi_{theta_i^j}(a_t|s_t)   on D_i^0, ..., D_i^{k-1}

    with `worth_i` the return after adaptation in the units of the loss (`fastadapt.rl.e_maml.worth`), so that the
    gradient is that of the expected return after adaptation, unbiased, with much more variance. It is `MAML` on tasks
    whose support and query are collectors, with the episodes of all tasks side by side and the inner steps of all tasks
    at once.

    Args:
        model: the policy, see `fastadapt.rl.policies`.
        loss: the inner objective; default the vanilla policy gradient.
        rule: the inner update rule; default `SGD(0.1)`.
        steps: inner steps k in training.
        meta_gradient: "exact" or "first_order".
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        e_maml: add E-MAML's term.

    Raises:
        ConfigError: for E-MAML's term with an inner objective that counts the same in its way.

    Example:
        >>> from fastadapt.rl.environments import family
        >>> from fastadapt.rl.policies import policy_for
        >>> from fastadapt.rl.tasks import Environments
        >>> from fastadapt.tasks import draw
        >>> navigation = family("navigation-v0")
        >>> learner = MetaPolicy(policy_for(navigation, (8,)), rule=SGD(0.5))
        >>> tasks = draw(Environments(navigation, episodes=3, horizon=5), seed=0, split="train", indices=range(2))
        >>> learner.trace(tasks, steps=1).metrics["return"].shape
        torch.Size([2, 2])

    References:
        Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks
        (arXiv:1703.03400), Algorithm 3. Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever 2018, Some
        Considerations on Learning to Explore via Meta-Reinforcement Learning (arXiv:1803.01118), equation 4.
    """

    def __init__(
        self,
        model: Policy,
        loss: PolicyGradient | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        test_steps: int | None = None,
        e_maml: bool = False,
    ) -> None:
        loss = PolicyGradient() if loss is None else loss
        if e_maml and loss.form != "log_likelihood":
            raise ConfigError(
                f"E-MAML's term and the inner objective {loss.form!r} both count how theta changes what is sampled; "
                "take one of them"
            )
        super().__init__(
            model,
            loss,
            rule=SGD(0.1) if rule is None else rule,
            steps=steps,
            meta_gradient=meta_gradient,
            test_steps=test_steps,
            route="loop",
        )
        self.e_maml = e_maml

    def gather(self, tasks: MetaBatch) -> Gathered:
        """Live through the episodes of every inner step, and of the adapted policies."""
        supports, queries = collectors_of(tasks)
        seen, metrics = [], dict[str, Tensor]()
        params, state = detached(self.theta()), None
        broken = torch.zeros(len(supports))
        steps = torch.zeros(len(supports))
        valued = None
        with torch.no_grad():
            for j in range(self.steps + 1):
                asked = supports if j < self.steps else queries
                per_task = asked[0].environments.episodes if j else None
                episodes, bad = gather(asked, self.model, self.acting(params, per_task))
                broken += bad
                steps += episodes.alive.sum((1, 2))
                if j in (0, self.steps):
                    metrics["return" if j == self.steps else "return before"] = episodes.mean_return
                if j == self.steps and self.e_maml:
                    valued = worth(asked[0].environments, episodes)
                whole = j < self.steps and getattr(self.inner_loss, "whole_episodes", False)
                seen.append(episodes if whole else episodes.steps())
                if j < self.steps:
                    params, state = self.descended(params, state, seen[-1], stacked=j > 0)
                    params = detached(params)
        metrics = {"return": metrics.pop("return"), **metrics}  # the headline first
        metrics |= {"environment steps": steps, "episodes not finite": broken}
        return Gathered(seen[:-1], seen[-1], metrics, valued)

    def judged(self, gathered: Gathered, params: Params, likelihood: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the surrogate and the divergence of every task as functions of the adapted parameters.

        Args:
            gathered: episodes before and after adaptation.
            params: theta' of all tasks, as `adapted_to` returns it.
            likelihood: of the episodes before adaptation, `[T]`, see `likelihood`; E-MAML's term is of it.

        Returns:
            `-mean_t( pi_{theta_i'} / pi_old A )`, `[T]`, and `mean_t KL(pi_old || pi_{theta_i'})`, `[T]`, both over the
            steps of the adapted policies.
        """
        query = gathered.query
        answers: Any = self.answers(params, query, stacked=bool(gathered.supports))
        surrogate = -mean_over_steps(_ratio(answers, query) * query.advantages, query.alive)
        if likelihood is not None and gathered.worth is not None:
            surrogate = surrogate - gathered.worth * likelihood
        return surrogate, mean_over_steps(query.behaviour.kl(answers), query.alive)

    def likelihood(self, gathered: Gathered, path: Sequence[Params]) -> Tensor | None:
        """Return `sum_j sum_t log( pi_{theta^j} / pi_old (a_t|s_t) )` of every task, `[T]`, over all inner steps j.

        Args:
            gathered: episodes before and after adaptation.
            path: theta^0, ..., theta^k, see `path`.

        Returns:
            0 where the policies are those that acted, with the gradient of the logarithm of the probability of what was
            lived through; None if E-MAML's term is not asked for.
        """
        if gathered.worth is None:
            return None
        total = torch.zeros_like(gathered.worth)
        for j, (own, support) in enumerate(zip(path, gathered.supports, strict=False)):
            ratio = _log_ratio(self.answers(own, support, stacked=j > 0), support)
            total = total + torch.where(support.alive > 0, ratio, 0.0).sum(1)
        return total

    def clipped(self, gathered: Gathered, clip: float, inner_kl: float) -> Tensor:
        """Return PPO's objective of every task, `[T]`, see `fastadapt.rl.ppo`."""
        path = self.path(self.theta(), gathered.supports)
        query = gathered.query
        ratio = _ratio(self.answers(path[-1], query, stacked=len(path) > 1), query)
        worse = torch.minimum(ratio * query.advantages, ratio.clamp(1 - clip, 1 + clip) * query.advantages)
        total = -mean_over_steps(worse, query.alive)
        likelihood = self.likelihood(gathered, path)
        if likelihood is not None and gathered.worth is not None:
            total = total - gathered.worth * likelihood
        for j, (own, support) in enumerate(zip(path, gathered.supports, strict=False)):
            now = self.answers(own, support, stacked=j > 0)
            axes = support.alive.dim() - 1
            total = total + inner_kl * mean_over_steps(support.behaviour.kl(now), support.alive, axes)
        return total

    def divergence(self, gathered: Gathered) -> Tensor:
        """Return `mean_t KL(pi_old || pi_{theta_i'(theta)})` of every task, `[T]`, at theta as it is now."""
        return self.judged(gathered, self.adapted_to(self.theta(), gathered.supports))[1]

    def forward(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return the mean surrogate of the adapted policies; its `backward()` gives MAML's meta-gradient."""
        if inner_lr is not None:
            raise TaskError("a policy's inner rate belongs to the rule; leave inner_lr out")
        gathered = self.gather(tasks)
        path = self.path(self.theta(), gathered.supports)
        surrogate, _ = self.judged(gathered, path[-1], self.likelihood(gathered, path))
        return Outcome(surrogate.mean(), surrogate, gathered.metrics)

    def trace(
        self,
        tasks: MetaBatch,
        steps: int | None = None,
        norm: Norm | None = None,
        after: Sequence[int] | None = None,
    ) -> Trace:
        """Return the returns after 0, 1, ..., `steps` updates: of the very episodes that the next update learns from.

        The query's collectors are not asked. The column of losses is minus the mean return.
        """
        k = self.test_steps if steps is None else steps
        check_steps(k)
        wanted = check_after(after, k)
        supports, _ = collectors_of(tasks)
        params, state = detached(self.theta()), None
        found = []
        with torch.no_grad():
            for j in range(wanted[-1] + 1):
                per_task = supports[0].environments.episodes if j else None
                episodes, broken = gather(supports, self.model, self.acting(params, per_task))
                warn_of(broken, supports)
                if j in wanted:
                    found.append(episodes.mean_return)
                if j < wanted[-1]:
                    whole = getattr(self.inner_loss, "whole_episodes", False)
                    steps_of = episodes if whole else episodes.steps()
                    params, state = self.descended(params, state, steps_of, stacked=j > 0)
                    params = detached(params)
        returns = torch.stack(found, 1)
        return Trace(-returns, {"return": returns}, [])


def _log_ratio(answers: Any, steps: Experience) -> Tensor:
    return answers.log_prob(steps.actions) - steps.behaviour.log_prob(steps.actions)


def _ratio(answers: Any, steps: Experience) -> Tensor:
    return _log_ratio(answers, steps).exp()
