"""What a policy answers: a distribution over actions, for each observation one.

They are named tuples of tensors, so that they pass through `torch.func` and are stacked, masked and stored as
tensors are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Gaussian(NamedTuple):
    """Independent normal distributions, `N(mean, exp(log_std)^2)` along each axis of an action.

    Example:
        >>> p = Gaussian(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> q = Gaussian(torch.ones(1, 2), torch.zeros(1, 2))
        >>> float(p.kl(q)), round(float(p.log_prob(torch.zeros(1, 2))), 4)    # (1 + 1) / 2, and -log(2 pi)
        (1.0, -1.8379)
    """

    mean: Tensor
    log_std: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return `log p(a)`, summed over the axes of an action: `[...]` for actions `[..., a]`."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def kl(self, other: "Gaussian") -> Tensor:
        """Return `KL(self || other)`, `[...]`, in nats."""
        ratio = torch.exp(2 * (self.log_std - other.log_std))
        away = ((self.mean - other.mean) * torch.exp(-other.log_std)).square()
        return (0.5 * (ratio + away - 1) + other.log_std - self.log_std).sum(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Return actions `[..., a]` made of standard normal `noise: [..., a]`."""
        return self.mean + self.log_std.exp() * noise

    def sure(self) -> "Gaussian":
        """Return the distribution that always gives the likeliest action."""
        return Gaussian(self.mean, torch.full_like(self.log_std, -math.inf))

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]`, in nats."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class Categorical(NamedTuple):
    """Choices with the probabilities `softmax(logits)`.

    Example:
        >>> p = Categorical(torch.tensor([0.0, 0.0]))
        >>> round(float(p.log_prob(torch.tensor(1))), 4), int(p.sample(torch.tensor([0.7])))
        (-0.6931, 1)
    """

    logits: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return `log p(a)`, `[...]` for choices `[...]`."""
        return F.log_softmax(self.logits, -1).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def kl(self, other: "Categorical") -> Tensor:
        """Return `KL(self || other)`, `[...]`, in nats."""
        own = F.log_softmax(self.logits, -1)
        return (own.exp() * (own - F.log_softmax(other.logits, -1))).sum(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Return choices `[...]`, int64, made of uniform `noise: [..., 1]` in [0, 1)."""
        above = self.logits.softmax(-1).cumsum(-1)[..., :-1]
        return (noise >= above).sum(-1)

    def sure(self) -> "Categorical":
        """Return the distribution that always gives the likeliest choice."""
        likeliest = F.one_hot(self.logits.argmax(-1), self.logits.shape[-1]).bool()
        return Categorical(torch.where(likeliest, 0.0, -math.inf))

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]`, in nats."""
        own = F.log_softmax(self.logits, -1)
        return -(own.exp() * own).sum(-1)


Distribution = Gaussian | Categorical
