"""Reinforcement learning through the same seam: a task's support and query are ways to collect trajectories."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from fastadapt import MAML, MLP, SGD, Task
from fastadapt.tasks import Collector, draw
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

TRAJECTORIES, HORIZON = 20, 15


class Policy(nn.Module):
    """A Gaussian over moves, with a deviation that does not depend on where the agent is."""

    def __init__(self):
        super().__init__()
        self.mean = MLP(2, (32, 32), 2, init_std=None)
        self.log_std = nn.Parameter(torch.zeros(2))

    def forward(self, place):
        return self.mean(place.flatten(0, -2)).view_as(place), self.log_std.exp().clamp(min=1e-6)


class Navigation:
    """Walk in the plane from the origin to a goal that the agent is not told; the reward is minus the distance."""

    def sample(self, rng: np.random.Generator) -> Task:
        goal = torch.as_tensor(rng.uniform(-0.5, 0.5, 2), dtype=torch.float32)
        own = torch.Generator().manual_seed(int(rng.integers(2**62)))

        def collect(policy):
            place, alive = torch.zeros(TRAJECTORIES, 2), torch.ones(TRAJECTORIES)
            steps = []
            for _ in range(HORIZON):
                mean, std = policy(place)
                action = mean + std * torch.randn(mean.shape, generator=own)
                moved = place + (0.1 * action).clamp(-0.1, 0.1)
                steps.append((place, action, -(moved - goal).norm(dim=1) * alive, alive))
                alive = alive * ((moved - goal).abs() >= 0.01).any(1)
                place = moved
            place, action, reward, alive = (torch.stack(each) for each in zip(*steps, strict=True))
            return {"place": place, "action": action, "reward": reward, "alive": alive}

        return Task(Collector(collect), Collector(collect))


class PolicyGradient:
    """Vanilla policy gradient with the mean return of each time step as the task's baseline."""

    def __call__(self, policy, batch):
        mean, std = policy(batch["place"])
        likelihood = Normal(mean, std).log_prob(batch["action"]).sum(-1)
        to_go, returns = torch.zeros(TRAJECTORIES), []
        for reward in batch["reward"].flip(0):
            to_go = reward + 0.99 * to_go
            returns.append(to_go)
        alive = batch["alive"]
        returns = torch.stack(returns[::-1])
        advantage = returns - (returns * alive).sum(1, keepdim=True) / alive.sum(1, keepdim=True).clamp(min=1)
        kept = advantage[alive > 0]
        advantage = (advantage - kept.mean()) / (kept.std() + 1e-8)
        return -(likelihood * advantage * alive).sum() / alive.sum()

    def metrics(self, output, batch):
        return {"return": batch["reward"].sum(0).mean()}


def returns(learner):
    return learner.trace(draw(Navigation(), seed=1, split="test", indices=range(30))).metrics["return"].mean(0)


@pytest.mark.long
def test_one_policy_gradient_step_finds_the_goal_after_meta_training():
    learner = MAML(Policy(), PolicyGradient(), rule=SGD(0.5), steps=1)
    before = returns(learner)
    meta_train(learner, Navigation(), Training(steps=40, meta_batch=10, lr=0.01), quiet=True)
    after = returns(learner)
    assert after[1] > after[0] + 2.0  # adapting helps
    assert after[1] > before[1] + 2.0  # and meta-training taught it to


def test_every_inner_step_gathers_new_trajectories_with_the_policy_as_adapted_so_far():
    [task] = draw(Navigation(), seed=0, split="test", indices=[0])
    seen = []

    def watched(policy):
        seen.append(policy.log_std.detach().clone())
        return task.support.collect(policy)

    learner = MAML(Policy(), PolicyGradient(), rule=SGD(0.5), steps=3)
    learner(Task(Collector(watched), task.query)).loss.backward()
    assert len({tuple(v.tolist()) for v in seen}) == 3
    assert all(p.grad.abs().max() > 0 for p in learner.parameters())
