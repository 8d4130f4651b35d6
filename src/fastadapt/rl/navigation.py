"""2-D navigation: a point walks from the origin to a goal that it is not told (Finn et al. 2017, section 5.3)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError

LONGEST_MOVE, NEAR, WIDEST = 0.1, 0.01, 0.5
"""Bounds of a move along each axis, of the distance along each axis at which the goal is reached, and of the goals."""


class Navigation:
    """Move a point on the plane, thousands of points at once.

        s_0 = (0, 0),   s_{t+1} = s_t + clip(0.1 a_t, -0.1, 0.1),   r_t = -|s_{t+1} - g|,   g ~ U[-0.5, 0.5]^2

    An episode ends when the point is closer to its goal than 0.01 along both axes, or after 100 steps. The distance is
    not squared: the paper says that it is, the code that its numbers are from takes the root. Nothing is random but the
    goal, so seeds change nothing.

    Example:
        >>> goals = torch.tensor([[0.1, 0.0], [0.0, 0.25]], dtype=torch.float64)
        >>> episodes = Navigation().start(goals, seeds=[0, 1])
        >>> _, rewards, ended = episodes.step(torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        >>> [round(r, 2) for r in rewards.tolist()], ended.tolist()
        ([-0.0, -0.15], [True, False])

    References:
        Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks
        (arXiv:1703.03400), section 5.3, and the authors' public code.
    """

    name = "navigation-v0"
    observation_size = 2
    action_size = 2
    discrete = False
    horizon = 100

    def draw_tasks(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return goals `[count, 2]`, uniform in the square [-0.5, 0.5]^2, float64."""
        return torch.from_numpy(rng.uniform(-WIDEST, WIDEST, (count, 2)))

    def start(self, tasks: Tensor, seeds: Sequence[int]) -> "Walks":
        """Return one point at the origin for each goal.

        Raises:
            ConfigError: if the goals are not `[n, 2]`, or there are not as many seeds.
        """
        if tasks.dim() != 2 or tasks.shape[1] != 2 or len(seeds) != len(tasks):
            raise ConfigError(
                f"navigation needs goals [n, 2] with a seed each, got {list(tasks.shape)} and {len(seeds)} seeds"
            )
        return Walks(tasks)


class Walks:
    """Hold points on their way, see `Navigation`.

    Args:
        goals: `[n, 2]`.
    """

    nonfinite = 0

    def __init__(self, goals: Tensor) -> None:
        self.goals = goals.float()
        self.observations = torch.zeros_like(self.goals)
        self._ended = torch.zeros(len(goals), dtype=torch.bool)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move every point; see `Episodes.step`."""
        move = (LONGEST_MOVE * actions.to(self.goals)).clamp(-LONGEST_MOVE, LONGEST_MOVE)
        self.observations = torch.where(self._ended[:, None], self.observations, self.observations + move)
        away = self.observations - self.goals
        self._ended = self._ended | (away.abs() < NEAR).all(1)
        return self.observations, -away.norm(dim=1), self._ended
