"""The inner objective: a vanilla policy gradient, and its forms whose second derivative is less biased."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.rl.experience import Experience, mean_over_steps

Form = Literal["log_likelihood", "likelihood_ratio", "dice"]


@dataclass(frozen=True)
class PolicyGradient:
    r"""Compute the surrogate whose gradient is the vanilla policy gradient of one task.

        "log_likelihood":    L = -mean_t( log pi_theta(a_t|s_t) A_t )
        "likelihood_ratio":  L = -mean_t( pi_theta(a_t|s_t) / pi_old(a_t|s_t) A_t ),   pi_old: what the actions are of

    over all steps of the task's episodes. At the theta that they were lived through with, both have the same gradient.
    Of the first, the second derivative leaves out
    how theta changes what is sampled: that is MAML as published, and biased. The second is LVC, the low-variance
    curvature of ProMP, which adds `grad log pi grad log pi' A`. The third is Loaded DiCE,

        "dice":  L = -(1/steps) sum_t ( box_t - box_{t-1} ) A_t,   box_t = prod_{s <= t} pi_theta / pi_old (a_s|s_s)

    whose derivatives of any order are unbiased, with more variance; it needs whole episodes.

    Args:
        form: as above.

    Example:
        >>> import torch
        >>> from fastadapt.rl.distributions import Categorical
        >>> known = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
        >>> steps = Experience(torch.zeros(2, 1), torch.tensor([0, 1]), *known, Categorical(torch.zeros(2, 2)))
        >>> logits = torch.zeros(2, requires_grad=True)     # a bandit with two arms: -E[A grad log pi] = (-0.5, 0.5)
        >>> PolicyGradient()(lambda o: Categorical(logits.expand(2, 2)), steps).backward()
        >>> logits.grad.tolist()
        [-0.5, 0.5]

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), equation 4. Rothfuss, Lee, Clavera, Asfour, Abbeel 2019, ProMP:
        Proximal Meta-Policy Search (arXiv:1810.06784), section 5. Foerster et al. 2018, DiCE (arXiv:1802.05098).
        Farquhar, Whiteson, Foerster 2019, Loaded DiCE (arXiv:1909.10549), equation 10.
    """

    form: Form = "log_likelihood"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, policy: Any, batch: Experience) -> Tensor:
        """Return the surrogate of `policy` on steps or episodes, with any leading axes."""
        likelihood = policy(batch.observations).log_prob(batch.actions)
        if self.form != "log_likelihood":
            likelihood = likelihood - batch.behaviour.log_prob(batch.actions)
        if self.form == "likelihood_ratio":
            likelihood = likelihood.exp()
        elif self.form == "dice":
            if batch.alive.dim() < 2:
                raise TaskError("the objective 'dice' needs whole episodes [N, H, ...], and got single steps")
            before = torch.where(batch.alive > 0, likelihood, 0.0).cumsum(-1)
            likelihood = before.exp() - torch.cat([torch.zeros_like(before[..., :1]), before[..., :-1]], -1).exp()
        return -mean_over_steps(likelihood * batch.advantages, batch.alive, batch.alive.dim())

    @property
    def whole_episodes(self) -> bool:
        """Whether steps have to stay in their episodes."""
        return self.form == "dice"

    def metrics(self, output: Any, batch: Experience) -> dict[str, Tensor]:
        """Return the mean return of the episodes, not discounted."""
        return {"return": batch.returns.nanmean()}
