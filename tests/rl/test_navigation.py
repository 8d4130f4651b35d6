"""2-D navigation: the returns of scripted policies, and environments that don't see one another."""

import numpy as np
import pytest
import torch

from fastadapt.errors import ConfigError
from fastadapt.rl.environments import family
from fastadapt.rl.navigation import Navigation

GOALS = 4000


def played(act, goals):
    """Return the mean return and length of episodes of a scripted policy, and every reward."""
    episodes = Navigation().start(goals, [0] * len(goals))
    alive, total, length = torch.ones(len(goals), dtype=torch.bool), torch.zeros(len(goals)), torch.zeros(len(goals))
    rewards = []
    for _ in range(Navigation.horizon):
        _, reward, ended = episodes.step(act(episodes.observations))
        total += torch.where(alive, reward, 0.0)
        length += alive
        rewards.append(torch.where(alive, reward, 0.0))
        alive = alive & ~ended
    return total.mean().item(), length.mean().item(), torch.stack(rewards)


def goals(count=GOALS):
    # a grid over the square, so that the mean is that of the uniform distribution and not of a draw
    side = int(count**0.5)
    line = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
    return torch.cartesian_prod(line, line)


def test_the_anchors_of_the_published_environment():
    every = goals()
    best, steps, _ = played(lambda place: (every.float() - place) / 0.1, every)
    assert best == pytest.approx(-0.504, abs=0.01) and steps == pytest.approx(3.7, abs=0.05)
    still, steps, _ = played(torch.zeros_like, every)
    assert still == pytest.approx(-38.25, abs=0.3) and steps > 99.5
    rng = torch.Generator().manual_seed(0)
    for std, anchor in ((1.0, -71.3), (0.5, -55.2), (0.1, -39.1)):
        mean, _, _ = played(lambda place, s=std: s * torch.randn(place.shape, generator=rng), every)
        assert mean == pytest.approx(anchor, abs=0.8)


def test_moves_are_clipped_and_a_reached_goal_ends_the_episode():
    episodes = Navigation().start(torch.tensor([[0.1, 0.0], [0.109, -0.0095], [0.1, 0.0105]]), [0, 0, 0])
    places, rewards, ended = episodes.step(torch.tensor([[7.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert places.tolist() == torch.tensor([[0.1, 0.0]] * 3).tolist()
    assert rewards.tolist() == pytest.approx([0.0, -((0.009**2 + 0.0095**2) ** 0.5), -0.0105], abs=1e-6)
    assert ended.tolist() == [True, True, False]  # the box is open at 0.01 along either axis
    stays, _, _ = episodes.step(torch.ones(3, 2))
    assert torch.equal(stays[:2], places[:2]) and not torch.equal(stays[2], places[2])


def test_one_at_a_time_and_side_by_side_give_the_same_numbers():
    few = Navigation().draw_tasks(6, np.random.default_rng(3))
    moves = torch.randn(Navigation.horizon, 6, 2, generator=torch.Generator().manual_seed(1))
    together, alone = Navigation().start(few, range(6)), [Navigation().start(few[[i]], [i]) for i in range(6)]
    for actions in moves:
        both = together.step(actions)
        each = [one.step(actions[[i]]) for i, one in enumerate(alone)]
        for part, parts in zip(both, zip(*each, strict=True), strict=True):
            assert torch.equal(part, torch.cat(parts))


def test_an_unknown_family_is_told_with_what_is_near():
    with pytest.raises(ConfigError, match="there is no family of environments 'navigation-v1'; did you mean 'navigat"):
        family("navigation-v1")
    with pytest.raises(ConfigError, match=r"navigation needs goals \[n, 2\] with a seed each, got \[1, 3\] and 1"):
        Navigation().start(torch.zeros(1, 3), [0])
