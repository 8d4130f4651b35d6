"""E-MAML's gradient is that of the expected return after adaptation, all that can happen being added up."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.rl.distributions import Categorical
from fastadapt.rl.e_maml import worth
from fastadapt.rl.environments import family
from fastadapt.rl.experience import Experience
from fastadapt.rl.gathered import Gathered
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import policy_for
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO, _functions
from fastadapt.rules.rules import SGD
from fastadapt.runs.presets import PRESETS
from fastadapt.tasks import draw

NAVIGATION = family("navigation-v0")
ALPHA, STEPS = 0.7, 2
# a world of two states: action a leads to state a, and reward[state, action] is earned; an episode has two steps
REWARD = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)
EPISODES = list(itertools.product(range(2), repeat=STEPS))
START = [[0.4, -0.2], [-0.6, 0.1]]


def lived(episode):
    """Return states and returns to go of an episode that starts in state 0."""
    states, at = [], 0
    for action in episode:
        states.append(at)
        at = action
    rewards = [REWARD[s, a] for s, a in zip(states, episode, strict=True)]
    return states, [sum(rewards[t:]) for t in range(STEPS)]


# ---- the expected return after adaptation, written out with nothing of the library


def probability(logits, episode):
    states, _ = lived(episode)
    p = 1.0
    for s, a in zip(states, episode, strict=True):
        p = p * logits[s].exp()[a] / logits[s].exp().sum()
    return p


def updated(logits, episode):
    """Return theta + alpha mean_t grad log pi(a_t|s_t) R_t, by the closed form of a softmax."""
    states, returns = lived(episode)
    step = torch.zeros_like(logits)
    for s, a, value in zip(states, episode, returns, strict=True):
        p = logits[s].exp() / logits[s].exp().sum()
        step[s] += (torch.eye(2, dtype=logits.dtype)[a] - p) * value / STEPS
    return logits + ALPHA * step


def expected(logits, updates):
    if updates == 0:
        return sum(probability(logits, e) * lived(e)[1][0] for e in EPISODES)
    return sum(probability(logits, e) * expected(updated(logits, e), updates - 1) for e in EPISODES)


def slope(updates):
    theta, found = torch.tensor(START, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for s, a in itertools.product(range(2), repeat=2):
        moved = []
        for sign in (1, -1):
            at = theta.clone()
            at[s, a] += sign * 1e-5
            moved.append(expected(at, updates))
        found[s, a] = (moved[0] - moved[1]) / 2e-5
    return found


# ---- the same by the library: one task for each thing that can happen


class Table(nn.Module):
    """A policy whose parameters are the logits in each state."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(START, dtype=torch.float64))

    def forward(self, observations):
        return Categorical(observations @ self.logits)


def experience(episodes, policies):
    """Return an episode `[T, H]` of each task, lived through with the policies of given logits."""
    states, returns = (torch.tensor(part) for part in zip(*map(lived, episodes), strict=True))
    seen = nn.functional.one_hot(states, 2).double()
    behaviour = Categorical(torch.einsum("ths,tsa->tha", seen, policies))
    ones = torch.ones(returns.shape, dtype=torch.float64)
    return Experience(seen, torch.tensor(episodes), returns, ones, returns, returns, behaviour)


def gradient(updates, how):
    learner = MetaPolicy(Table(), PolicyGradient(how) if how != "e_maml" else None, rule=SGD(ALPHA), steps=updates)
    happens = list(itertools.product(EPISODES, repeat=updates + 1))
    at = torch.tensor(START, dtype=torch.float64).expand(len(happens), 2, 2).clone()
    share, parts = torch.ones(len(happens), dtype=torch.float64), []
    for j in range(updates + 1):
        episodes = [each[j] for each in happens]
        parts.append(experience(episodes, at))
        share = share * torch.stack([probability(*pair) for pair in zip(at, episodes, strict=True)])
        at = torch.stack([updated(*pair) for pair in zip(at, episodes, strict=True)])
    assert float(share.sum()) == pytest.approx(1)
    value = parts[-1].rewards[:, 0] / STEPS  # G / h, where advantages are the returns themselves
    gathered = Gathered(parts[:-1], parts[-1], {}, value if how == "e_maml" else None)
    path = learner.path(learner.theta(), gathered.supports)
    surrogate, divergence = learner.judged(gathered, path[-1], learner.likelihood(gathered, path))
    assert float(divergence.detach().abs().max()) < 1e-12  # the policies are those that acted
    [found] = torch.autograd.grad((share * surrogate).sum(), list(learner.theta().values()))
    return -STEPS * found


@pytest.mark.parametrize("updates", [1, 2])
def test_the_gradient_is_that_of_the_expected_return_after_adaptation(updates):
    torch.testing.assert_close(gradient(updates, "e_maml"), slope(updates), atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("form", ["log_likelihood", "likelihood_ratio"])
def test_without_the_term_it_is_not(form):
    assert float((gradient(1, form) - slope(1)).abs().max()) > 1e-2


# ---- real episodes


def small(steps=1):
    torch.manual_seed(0)
    learner = MetaPolicy(policy_for(NAVIGATION, (5,), "tanh").double(), rule=SGD(0.5), steps=steps, e_maml=True)
    source = Environments(NAVIGATION, episodes=3, horizon=6)
    return learner, draw(source, seed=0, split="train", indices=range(3))


@pytest.mark.parametrize("steps", [1, 2])
def test_trpo_and_the_plain_step_have_the_same_gradient(steps):
    learner, tasks = small(steps)
    again = small(steps)[1]
    learner(tasks).loss.backward()
    plain = torch.cat([p.grad.flatten() for p in learner.parameters()])
    gathered = learner.gather(again)
    params = list(learner.theta().values())
    start = [p.detach().clone() for p in params]
    moved, norm, facts = TRPO().step(params, *_functions(learner, gathered, []))
    assert moved and float(norm) == pytest.approx(float(plain.norm()))
    assert facts["kl"] <= 0.01 and facts["line search"] >= 0
    away = torch.cat([(p - s).flatten() for p, s in zip(params, start, strict=True)])
    assert float(away.detach() @ plain) < 0
    off = MetaPolicy(learner.model, rule=SGD(0.5), steps=steps)
    assert off.gather(again).worth is None


def test_the_worth_of_a_task_is_its_return_in_units_of_its_surrogate():
    learner, tasks = small()
    seen = learner.gather(tasks)
    assert seen.worth is not None and float(seen.worth.sum()) == pytest.approx(0, abs=1e-9)
    assert torch.equal(seen.first(2).worth, seen.worth[:2])
    raw = torch.tensor([[[1.0, 2.0, 0.0]], [[0.0, 4.0, 2.0]]])  # one episode of each task, the first is shorter
    alive = torch.tensor([[[1.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]]])
    none = torch.zeros_like(raw)
    steps = Experience(none, none, raw, alive, none, none, Categorical(none))
    one = Environments(NAVIGATION, episodes=1, discount=1.0)
    first = 3 / (2 * torch.tensor([3.0, 2.0]).std(correction=0))
    second = 6 / (3 * torch.tensor([6.0, 6.0, 2.0]).std(correction=0))
    torch.testing.assert_close(worth(one, steps), torch.stack([first - second, second - first]))
    same = steps._replace(rewards=torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 4.0, 2.0]]]), baseline=alive)
    level = same._replace(rewards=torch.zeros_like(raw), baseline=none)
    assert worth(one, level).tolist() == [0, 0]  # nothing can be learned from it, and nothing is divided by 0


def test_a_run_asks_for_it_by_its_name_and_what_counts_the_same_twice_is_refused():
    config = PRESETS["maml-navigation"][1]
    learner = replace(config, method=replace(config.method, form="e_maml")).build()
    assert isinstance(learner, MetaPolicy) and learner.e_maml and learner.inner_loss == PolicyGradient()
    assert not config.build().e_maml
    with pytest.raises(ConfigError, match="both count how theta changes what is sampled; take one of them"):
        MetaPolicy(policy_for(NAVIGATION, (5,)), PolicyGradient("dice"), e_maml=True)
