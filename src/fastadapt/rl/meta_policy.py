"""MAML for reinforcement learning: an initial policy from which one policy-gradient step on a few episodes suffices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.adapt import adapt
from fastadapt.inner.calculus import Params, detached
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome, Trace
from fastadapt.methods.maml import MAML
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.experience import Experience, mean_over_steps
from fastadapt.rl.policies import Policy
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.tasks import EpisodeCollector, gather
from fastadapt.rules.rules import SGD, Rule
from fastadapt.tasks import as_groups, is_collector


@dataclass(frozen=True)
class Gathered:
    """Hold what a meta-batch of `T` tasks lived through.

    Args:
        supports: for each inner step the steps that it learned from, `[T, R, ...]`.
        query: the steps of the adapted policies.
        metrics: of each task, `[T]`: the return of the first and of the adapted policy, steps in environments, episodes
            that were not finite.
    """

    supports: list[Experience]
    query: Experience
    metrics: dict[str, Tensor]

    def first(self, tasks: int) -> "Gathered":
        """Return what the first so many tasks lived through."""

        def some(leaf: Tensor) -> Tensor:
            return leaf[:tasks]

        return Gathered(*(pytree.tree_map(some, part) for part in (self.supports, self.query, self.metrics)))


class MetaPolicy(MAML):
    r"""Meta-learn the initial parameters of a policy (MAML's Algorithm 3).

        theta_i^{j+1} = theta_i^j - alpha grad L(pi_{theta_i^j}; D_i^j),    D_i^j: F episodes of pi_{theta_i^j}
        loss          = (1/T) sum_i -mean_t( pi_{theta_i^k} / pi_old (a_t|s_t) A_t )   on F episodes of pi_old

    with `pi_old` the adapted policy that lived through them, so that the value is 0 for normalised advantages and the
    gradient is MAML's. Every step's episodes enter the graph; how theta changes what is sampled does not, unless the
    inner objective says so (`PolicyGradient("likelihood_ratio")`). It is `MAML` on tasks whose support and query are
    collectors, with the episodes of all tasks side by side and the inner steps of all tasks at once.

    Args:
        model: the policy, see `fastadapt.rl.policies`.
        loss: the inner objective; default the vanilla policy gradient.
        rule: the inner update rule; default `SGD(0.1)`.
        steps: inner steps k in training.
        meta_gradient: "exact" or "first_order".
        test_steps: inner steps of `adapt` and evaluation; default `steps`.

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
        (arXiv:1703.03400), Algorithm 3.
    """

    model: Policy

    def __init__(
        self,
        model: Policy,
        loss: PolicyGradient | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        test_steps: int | None = None,
    ) -> None:
        super().__init__(
            model,
            PolicyGradient() if loss is None else loss,
            rule=SGD(0.1) if rule is None else rule,
            steps=steps,
            meta_gradient=meta_gradient,
            test_steps=test_steps,
            route="loop",
        )

    # ---- the inner steps of all tasks at once --------------------------------------------------

    def theta(self) -> Params:
        """Return the parameters that are adapted, by name."""
        own = dict(self.model.named_parameters())
        return {name: own[name] for name in self.adapted}

    def acting(self, params: Params, per_task: int | None) -> Callable[[Tensor], Distribution]:
        """Return the policy of given parameters.

        Args:
            params: of one policy, or of `T` with a leading axis.
            per_task: rows of each of the `T`; None is one policy for all rows.
        """
        if per_task is None:
            return lambda observations: functional_call(self.model, params, (observations,))

        def each(observations: Tensor) -> Distribution:
            rows = observations.unflatten(0, (-1, per_task))
            answers = self.distributions(params, rows)
            return type(answers)(*(leaf.flatten(0, 1) for leaf in answers))

        return each

    def distributions(self, params: Params, observations: Tensor) -> Distribution:
        """Return what `T` policies answer: `[T, ...]` for parameters and observations with a leading axis `T`."""
        return vmap(lambda own, seen: functional_call(self.model, own, (seen,)))(params, observations)

    def descended(self, params: Params, state: Any, support: Experience, *, stacked: bool) -> tuple[Params, Any]:
        """Return the parameters of `T` tasks, and the rule's state, after one inner step.

        Args:
            params: theta^j; before the first step that of all tasks, else with a leading axis `T`.
            state: of the rule, None before the first step.
            support: steps of the tasks, `[T, R, ...]`.
            stacked: whether parameters and state have the leading axis.
        """
        loss = partial(_called, self.inner_loss, self.model)

        def one(own: Params, state: Any, seen: Experience) -> tuple[Params, Any]:
            phi = adapt(loss, own, seen, self.rule, 1, meta_gradient=self.differentiation, state=state)
            return dict(phi), phi.state

        axis = 0 if stacked else None
        return vmap(one, in_dims=(axis, axis, 0))(params, state, support)

    def path(self, theta: Params, supports: Sequence[Experience]) -> list[Params]:
        """Return theta, and the parameters of all tasks after each inner step, as functions of theta."""
        found, state = [theta], None
        for j, support in enumerate(supports):
            params, state = self.descended(found[-1], state, support, stacked=j > 0)
            found.append(params)
        return found

    def adapted_to(self, theta: Params, supports: Sequence[Experience]) -> Params:
        """Return the adapted parameters of all tasks as a function of theta, which autograd can differentiate."""
        return self.path(theta, supports)[-1]

    # ---- episodes -------------------------------------------------------------------------------

    def gather(self, tasks: MetaBatch) -> Gathered:
        """Live through the episodes of every inner step, and of the adapted policies."""
        supports, queries = collectors_of(tasks)
        seen, metrics = [], dict[str, Tensor]()
        params, state = detached(self.theta()), None
        broken = torch.zeros(len(supports))
        steps = torch.zeros(len(supports))
        with torch.no_grad():
            for j in range(self.steps + 1):
                asked = supports if j < self.steps else queries
                per_task = asked[0].environments.episodes if j else None
                episodes, bad = gather(asked, self.model, self.acting(params, per_task))
                broken += bad
                steps += episodes.alive.sum((1, 2))
                if j in (0, self.steps):
                    metrics["return" if j == self.steps else "return before"] = episodes.returns.mean(1)
                whole = j < self.steps and getattr(self.inner_loss, "whole_episodes", False)
                seen.append(episodes if whole else episodes.steps())
                if j < self.steps:
                    params, state = self.descended(params, state, seen[-1], stacked=j > 0)
                    params = detached(params)
        metrics = {"return": metrics.pop("return"), **metrics}  # the headline first
        metrics |= {"environment steps": steps, "episodes not finite": broken}
        return Gathered(seen[:-1], seen[-1], metrics)

    def judged(self, gathered: Gathered, params: Params) -> tuple[Tensor, Tensor]:
        """Return the surrogate and the divergence of every task as functions of the adapted parameters.

        Args:
            gathered: episodes before and after adaptation.
            params: theta' of all tasks, as `adapted_to` returns it.

        Returns:
            `-mean_t( pi_{theta_i'} / pi_old A )`, `[T]`, and `mean_t KL(pi_old || pi_{theta_i'})`, `[T]`, both over the
            steps of the adapted policies.
        """
        query = gathered.query
        answers: Any = self.answers(params, query, stacked=bool(gathered.supports))
        surrogate = -mean_over_steps(_ratio(answers, query) * query.advantages, query.alive)
        return surrogate, mean_over_steps(query.behaviour.kl(answers), query.alive)

    def clipped(self, gathered: Gathered, clip: float, inner_kl: float) -> Tensor:
        """Return PPO's objective of every task, `[T]`, see `fastadapt.rl.ppo`."""
        path = self.path(self.theta(), gathered.supports)
        query = gathered.query
        ratio = _ratio(self.answers(path[-1], query, stacked=len(path) > 1), query)
        worse = torch.minimum(ratio * query.advantages, ratio.clamp(1 - clip, 1 + clip) * query.advantages)
        total = -mean_over_steps(worse, query.alive)
        for j, (own, support) in enumerate(zip(path, gathered.supports, strict=False)):
            now = self.answers(own, support, stacked=j > 0)
            axes = support.alive.dim() - 1
            total = total + inner_kl * mean_over_steps(support.behaviour.kl(now), support.alive, axes)
        return total

    def divergence(self, gathered: Gathered) -> Tensor:
        """Return `mean_t KL(pi_old || pi_{theta_i'(theta)})` of every task, `[T]`, at theta as it is now."""
        return self.judged(gathered, self.adapted_to(self.theta(), gathered.supports))[1]

    def answers(self, params: Params, steps: Experience, *, stacked: bool) -> Any:
        """Return what the policies answer to observations `[T, R, o]`, with one for each task if they are stacked."""
        seen = steps.observations
        return self.distributions(params, seen) if stacked else self.acting(params, None)(seen)

    def forward(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return the mean surrogate of the adapted policies; its `backward()` gives MAML's meta-gradient."""
        if inner_lr is not None:
            raise TaskError("a policy's inner rate belongs to the rule; leave inner_lr out")
        gathered = self.gather(tasks)
        surrogate, _ = self.judged(gathered, self.adapted_to(self.theta(), gathered.supports))
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
                episodes, _ = gather(supports, self.model, self.acting(params, per_task))
                if j in wanted:
                    found.append(episodes.returns.mean(1))
                if j < wanted[-1]:
                    whole = getattr(self.inner_loss, "whole_episodes", False)
                    steps_of = episodes if whole else episodes.steps()
                    params, state = self.descended(params, state, steps_of, stacked=j > 0)
                    params = detached(params)
        returns = torch.stack(found, 1)
        return Trace(-returns, {"return": returns}, [])


def _ratio(answers: Any, steps: Experience) -> Tensor:
    return (answers.log_prob(steps.actions) - steps.behaviour.log_prob(steps.actions)).exp()


def _called(loss: Any, model: Policy, params: Params, batch: Any) -> Any:
    return loss(lambda observations: functional_call(model, params, (observations,)), batch)


def collectors_of(tasks: MetaBatch) -> tuple[list[EpisodeCollector], list[EpisodeCollector]]:
    """Return the collectors of all tasks in the order in which they were given."""
    placed = [pair for group in as_groups(tasks) for pair in zip(group.positions, group, strict=True)]
    ordered = [task for _, task in sorted(placed, key=lambda pair: pair[0])]
    pairs = [(task.support, task.query) for task in ordered]
    for side in (each for pair in pairs for each in pair):
        if not isinstance(side, EpisodeCollector):
            raise TaskError(
                f"a meta-policy learns from episodes, got a {type(side).__name__}; draw tasks from "
                f"fastadapt.rl.tasks.Environments{', or take MAML with a Collector of your own' * is_collector(side)}"
            )
    return [support for support, _ in pairs], [query for _, query in pairs]
