"""Trainings of policies that are killed go on, and end with the bits of one that was not."""

import os

import numpy as np
import pytest
import torch

from fastadapt.rl.environments import family
from fastadapt.rl.gym_family import from_function
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import policy_for
from fastadapt.rl.ppo import PPO
from fastadapt.rl.recurrent import RecurrentPolicy
from fastadapt.rl.rl2 import RL2
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO
from fastadapt.rules.rules import SGD
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train
from reliability.killed import count_and_whole, outcome

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
STEPS = 4
TRAINING = Training(steps=STEPS, meta_batch=2, checkpoint_every=1, log_every=1, keep=2)


def trained(learner, source, folder, outer):
    meta_train(learner, source, TRAINING, folder=folder, outer_step=outer, quiet=True)
    return learner.state_dict()


def learner_in(known, **how):
    torch.manual_seed(0)
    return MetaPolicy(policy_for(known, (8,)), rule=SGD(0.1), **how)


def trpo(folder):
    known = family("navigation-v0")
    return trained(learner_in(known), Environments(known, episodes=3, horizon=5), folder, TRPO())


def e_maml(folder):
    known = family("navigation-v0")
    return trained(learner_in(known, e_maml=True), Environments(known, episodes=3, horizon=5), folder, PPO(epochs=2))


def rl2(folder):
    known = family("navigation-v0")
    torch.manual_seed(0)
    learner = RL2(RecurrentPolicy(2, 2, hidden=8), test_steps=1)
    return trained(learner, Environments(known, episodes=3, horizon=5), folder, PPO(epochs=2))


def cheetah(folder):
    known = family("half-cheetah-velocity-v0")
    return trained(learner_in(known), Environments(known, episodes=2, horizon=5), folder, TRPO())


def own(folder):
    import gymnasium as gym

    class Choose(gym.Env):
        """Chance is in the start, in the steps and in the tasks, all of it from the environment's generator."""

        action_space, observation_space = gym.spaces.Discrete(3), gym.spaces.Box(-9, 9, (2,))
        horizon = 5

        def sample_tasks(self, count):
            return self.np_random.uniform(-1, 1, count).tolist()

        def set_task(self, task):
            self.goal = task

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = self.np_random.normal(size=2).astype(np.float32)
            return self.at, {}

        def step(self, action):
            self.at = self.at + self.np_random.normal(action - 1, 0.1, 2).astype(np.float32)
            return self.at, -abs(float(self.at[0]) - self.goal), bool(self.at[1] > 2), False, {}

    known = from_function(Choose)
    return trained(learner_in(known), Environments(known, episodes=2), folder, TRPO())


@pytest.mark.long
def test_a_policy_that_is_killed_between_its_episodes_goes_on(tmp_path):
    count, whole = count_and_whole(trpo, tmp_path / "whole")
    assert count > 40
    found = [outcome(trpo, tmp_path / str(b), b, whole, STEPS) for b in (count // 3, 2 * count // 3)]
    assert [each for each in found if each] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("train", [trpo, e_maml, rl2, cheetah, own])
def test_a_policy_that_is_killed_anywhere_goes_on(tmp_path, train):
    if train in (cheetah, own):
        pytest.importorskip("gymnasium")
    count, whole = count_and_whole(train, tmp_path / "whole")
    found = [outcome(train, tmp_path / str(b), b, whole, STEPS) for b in range(3, count + 1, max(1, count // 6))]
    assert [each for each in found if each] == []
