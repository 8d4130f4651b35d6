"""`fastadapt predict PREDICTOR [goal=0.3,-0.2 ...]`: let an adapted policy act in its environment."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from fastadapt.commands.goals import goal_of
from fastadapt.errors import EpisodeError
from fastadapt.predictor import Predictor
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.settings import EnvironmentData
from fastadapt.rl.tasks import Environments, EpisodeCollector, gather, warn_of

EPISODES, SEED = 20, 0
"""Episodes with actions as they are drawn, and the seed of their random numbers."""


def run(predictor: Predictor, words: Sequence[str], *, as_json: bool) -> int:
    """Print for each goal the return of the policy's likeliest actions, and the mean return of drawn ones.

    Args:
        predictor: what adapt wrote.
        words: the goals, as they were written; none takes the one that it was adapted to.
        as_json: print JSON, with every step of the likeliest actions.

    Returns:
        The exit code, 0.

    Raises:
        FastadaptError: if a goal or the environment can't be used.
    """
    recipe: dict[str, Any] = predictor.details["input"]
    data = EnvironmentData(recipe["family"], told=recipe["told"], horizon=recipe["horizon"], test_episodes=EPISODES)
    source = data.source("test")
    goals = [goal_of(word, source) for word in words] or [torch.tensor(recipe["goal"], dtype=torch.float64)]
    found = [_rolled_out(predictor, source, goal) for goal in goals]
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    for one in found:
        place = ", ".join(f"{number:.4g}" for number in one["goal"])
        print(
            f"goal ({place}): likeliest actions return {one['return']:.4g} in {len(one['rewards'])} steps; "
            f"drawn actions {one['mean return']:.4g}, the mean of {EPISODES} episodes"
        )
    return 0


def _rolled_out(predictor: Predictor, source: Environments, goal: torch.Tensor) -> dict[str, Any]:
    policy: Any = predictor.model

    def likeliest(observations: torch.Tensor) -> Distribution:
        return policy(observations).sure()

    with torch.no_grad():
        asked = [EpisodeCollector(source, goal, SEED, "query") for _ in range(2)]
        drawn, broken = gather(asked[:1], policy, policy)
        sure, broken_too = gather(asked[1:], policy, likeliest)
    steps = int(sure.alive[0, 0].sum())
    warn_of(broken, asked[:1])
    if not steps or not bool(drawn.mean_return.isfinite()):
        raise EpisodeError(
            f"the policy can't act in {source.family.name} at the goal {goal.tolist()}: a number is not finite in the "
            "first step; look whether its weights are, and whether the environment is"
        )
    if broken_too[0] and not broken[0]:
        warn_of(broken_too, asked[1:])
    return {
        "goal": goal.tolist(),
        "return": float(sure.returns[0, 0]),
        "mean return": float(drawn.mean_return),
        "returns": [value if math.isfinite(value) else None for value in drawn.returns[0].tolist()],
        "observations": sure.observations[0, 0, :steps].tolist(),
        "actions": sure.actions[0, 0, :steps].tolist(),
        "rewards": sure.rewards[0, 0, :steps].tolist(),
    }
