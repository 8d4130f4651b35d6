"""RL²: a memory that goes on through the episodes of a trial and is empty at its beginning, and PPO on trials."""

import pytest
import torch

from fastadapt.errors import TaskError
from fastadapt.rl.environments import family
from fastadapt.rl.ppo import PPO
from fastadapt.rl.recurrent import RecurrentPolicy
from fastadapt.rl.rl2 import RL2
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trials import gather_trials
from fastadapt.tasks import draw
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

NAVIGATION = family("navigation-v0")
SOURCE = Environments(NAVIGATION, episodes=3, horizon=7)


def learner_of(hidden=6):
    torch.manual_seed(0)
    return RL2(RecurrentPolicy(2, 2, hidden), test_steps=2)


def tasks(count=4, first=0):
    return draw(SOURCE, seed=0, split="train", indices=range(first, first + count))


def test_what_was_read_while_acting_gives_the_same_answers_in_one_sequence():
    learner = learner_of()
    goals = torch.tensor([[0.1, 0.0], [0.4, 0.3]], dtype=torch.float64)
    learner.model.head.bias.data = torch.tensor([1.0, 0.0])  # so that some episodes reach the first goal and end early
    learner.model.log_std.data.fill_(-6.0)
    chosen = [SOURCE.task(goal, number).support for number, goal in enumerate(goals)]
    with torch.no_grad():
        trials = gather_trials(chosen, learner.model, 3)
        answers, _ = learner.model(trials.inputs)
    steps = trials.alive.sum(1)
    assert steps.min() < steps.max() == 21
    kept = trials.alive > 0
    assert not (kept[:, 1:] & ~kept[:, :-1]).any()  # steps that were taken come first
    torch.testing.assert_close(answers.mean[kept], trials.behaviour.mean[kept], atol=1e-5, rtol=1e-5)
    begins = trials.inputs[..., -1]
    assert begins[1].nonzero().flatten().tolist() == [7, 14] if steps[1] == 21 else True
    assert begins[kept].sum() == 2 * len(begins)  # the second and the third episode of each trial


def test_the_loss_is_the_policy_gradient_of_whole_trials():
    learner = learner_of()
    gathered = learner.gather(tasks())
    losses = learner.clipped(gathered, 0.3, 0.0)
    found = torch.autograd.grad(losses.mean(), list(learner.parameters()))
    trials = gathered.trials
    likelihood = learner.model(trials.inputs)[0].log_prob(trials.actions)
    weighted = (likelihood * trials.advantages * trials.alive).sum() / trials.alive.sum()  # trials of equal length
    wanted = torch.autograd.grad(-weighted, list(learner.parameters()))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    assert float(learner.divergence(gathered).detach().abs().max()) < 1e-6


def test_tasks_do_not_share_a_memory():
    learner = learner_of()
    together = learner.trace(tasks()).metrics["return"]
    alone = torch.cat([learner.trace([task]).metrics["return"] for task in tasks()])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)
    assert together.shape == (4, 3) and learner.trace(tasks(), after=[0, 2]).metrics["return"].shape == (4, 2)


def test_it_trains_and_says_that_it_has_no_adapted_weights():
    learner = learner_of()
    before = [p.detach().clone() for p in learner.parameters()]
    trained = meta_train(learner, SOURCE, Training(steps=2, meta_batch=2, log_every=1), outer_step=PPO(), quiet=True)
    assert {"return before", "return after", "kl"} <= set(trained.records[-1])
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
    with pytest.raises(TaskError, match="adapts while it acts"):
        learner.adapt(tasks(1)[0].support)
