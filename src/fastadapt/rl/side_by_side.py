"""Inner steps of the policies of all tasks at once, as functions of the initial parameters."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.func import functional_call, vmap

from fastadapt.inner.adapt import adapt
from fastadapt.inner.calculus import Params
from fastadapt.methods.maml import MAML
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.experience import Experience
from fastadapt.rl.policies import Policy


class SideBySide(MAML):
    """Adapt one policy to many tasks at once, each from its own episodes; see `fastadapt.rl.meta_policy.MetaPolicy`."""

    model: Policy

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

    def answers(self, params: Params, steps: Experience, *, stacked: bool) -> Any:
        """Return what the policies answer to observations `[T, R, o]`, with one for each task if they are stacked."""
        seen = steps.observations
        return self.distributions(params, seen) if stacked else self.acting(params, None)(seen)


def _called(loss: Any, model: Policy, params: Params, batch: Any) -> Any:
    return loss(lambda observations: functional_call(model, params, (observations,)), batch)
