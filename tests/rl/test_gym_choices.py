"""An environment of Gymnasium's own, with choices."""

import gymnasium as gym
import numpy as np
import torch

from fastadapt.rl.gym_family import from_function


def test_an_environment_of_the_package_with_choices():
    """CartPole, whose pole is as long as the task says."""

    def cart(length):
        env = gym.make("CartPole-v1")
        env.unwrapped.length = float(length)
        return env

    cart.task_space = gym.spaces.Box(0.2, 1.0, ())
    family = from_function(cart)
    assert (family.horizon, family.discrete, family.action_size, family.observation_size) == (500, True, 2, 4)
    episodes = family.start(family.draw_tasks(2, np.random.default_rng(0)), [0, 1])
    for _ in range(20):
        _, rewards, ended = episodes.step(torch.ones(2, dtype=torch.int64))
    assert ended.all() and not rewards.any()
