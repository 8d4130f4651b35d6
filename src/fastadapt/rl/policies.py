"""Policies: a network that answers each observation with a distribution over actions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastadapt.nets.mlp import MLP, Activation
from fastadapt.rl.distributions import Categorical, Distribution, Gaussian
from fastadapt.rl.environments import Family

LEAST_LOG_STD = math.log(1e-6)
HIDDEN = (100, 100)


class Policy(nn.Module):
    """Answer observations with a distribution.

    Args:
        body: the network, `[n, o]` to `[n, outputs]`.

    A policy of your own derives from it, or is any module with these two methods.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, observations: Tensor) -> Distribution:
        """Return the distribution over actions at observations `[..., o]`."""
        raise NotImplementedError

    def noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        """Return the random numbers `[*shape, k]`, float32, that as many actions are made of."""
        raise NotImplementedError

    def _outputs(self, observations: Tensor) -> Tensor:
        outputs = self.body(observations.reshape(-1, observations.shape[-1]))
        return outputs.view(*observations.shape[:-1], outputs.shape[-1])


class GaussianPolicy(Policy):
    r"""Act with normal noise around a network's answer: `a ~ N(mu_theta(s), sigma^2)`.

    The deviations `sigma = exp(log_std)` are parameters that no observation changes, begin at 1 and are adapted as all
    others; they stay above 1e-6. Weights begin as Xavier's, biases at 0.

    Args:
        observations: numbers in an observation.
        actions: numbers in an action.
        hidden: widths of the hidden layers.
        activation: what follows each: "relu" (MAML) or "tanh" (later code).

    Example:
        >>> policy = GaussianPolicy(2, 2)
        >>> policy(torch.zeros(5, 2)).mean.shape
        torch.Size([5, 2])

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), appendix A.2.
    """

    def __init__(
        self, observations: int, actions: int, hidden: Sequence[int] = HIDDEN, activation: Activation = "relu"
    ) -> None:
        super().__init__(_xavier(MLP(observations, hidden, actions, activation=activation, init_std=None)))
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, observations: Tensor) -> Gaussian:
        """Return the distribution over actions at observations `[..., o]`."""
        mean = self._outputs(observations)
        return Gaussian(mean, self.log_std.clamp(min=LEAST_LOG_STD).expand_as(mean))

    def noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        """Return standard normal numbers `[*shape, a]`."""
        return torch.from_numpy(rng.standard_normal((*shape, self.log_std.shape[0]), dtype=np.float32))


class CategoricalPolicy(Policy):
    """Choose among a few actions with the probabilities `softmax(f_theta(s))`.

    Args:
        observations: numbers in an observation.
        actions: how many choices there are.
        hidden: widths of the hidden layers.
        activation: what follows each.

    Example:
        >>> CategoricalPolicy(4, 3)(torch.zeros(5, 4)).logits.shape
        torch.Size([5, 3])
    """

    def __init__(
        self, observations: int, actions: int, hidden: Sequence[int] = HIDDEN, activation: Activation = "relu"
    ) -> None:
        super().__init__(_xavier(MLP(observations, hidden, actions, activation=activation, init_std=None)))

    def forward(self, observations: Tensor) -> Categorical:
        """Return the distribution over choices at observations `[..., o]`."""
        return Categorical(self._outputs(observations))

    def noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        """Return uniform numbers `[*shape, 1]` in [0, 1)."""
        return torch.from_numpy(rng.random((*shape, 1), dtype=np.float32))


def policy_for(
    family: Family, hidden: Sequence[int] = HIDDEN, activation: Activation = "relu", *, told: int = 0
) -> Policy:
    """Return a fresh policy for a family of environments.

    Args:
        family: whose observations and actions it takes.
        hidden: widths of the hidden layers.
        activation: what follows each.
        told: numbers of the goal that are appended to each observation (the oracle); 0 tells nothing.
    """
    kind: Any = CategoricalPolicy if family.discrete else GaussianPolicy
    return kind(family.observation_size + told, family.action_size, hidden, activation)


def _xavier(net: MLP) -> MLP:
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net
