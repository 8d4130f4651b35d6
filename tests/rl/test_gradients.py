"""Policy gradients, the linear baseline and advantages against closed forms, in float64 where gradients are."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt.rl.advantages import advantages, discounted, linear_baseline
from fastadapt.rl.distributions import Categorical, Gaussian
from fastadapt.rl.environments import family
from fastadapt.rl.experience import Experience
from fastadapt.rl.gathered import Gathered
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import CategoricalPolicy, GaussianPolicy, policy_for
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.tasks import Environments
from fastadapt.rules.rules import SGD
from fastadapt.tasks import draw

NAVIGATION = family("navigation-v0")


def gaussian(rng, *shape):
    return Gaussian(torch.randn(*shape, generator=rng).double(), 0.3 * torch.randn(*shape, generator=rng).double())


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_distributions_agree_with_torch(kind):
    rng = torch.Generator().manual_seed(0)
    if kind == "gaussian":
        p, q = gaussian(rng, 5, 3), gaussian(rng, 5, 3)
        a, b = (torch.distributions.Normal(d.mean, d.log_std.exp()) for d in (p, q))
        actions = p.sample(torch.randn(5, 3, generator=rng).double())
        likelihood, divergence = a.log_prob(actions).sum(-1), torch.distributions.kl_divergence(a, b).sum(-1)
        entropy = a.entropy().sum(-1)
    else:
        p, q = (Categorical(torch.randn(5, 3, generator=rng).double()) for _ in range(2))
        a, b = (torch.distributions.Categorical(logits=d.logits) for d in (p, q))
        actions = p.sample(torch.rand(5, 1, generator=rng).double())
        likelihood, divergence, entropy = a.log_prob(actions), torch.distributions.kl_divergence(a, b), a.entropy()
    torch.testing.assert_close(p.log_prob(actions), likelihood)
    torch.testing.assert_close(p.kl(q), divergence)
    torch.testing.assert_close(p.entropy(), entropy)


def test_choices_have_their_probabilities_and_the_likeliest_is_sure():
    p = Categorical(torch.tensor([0.2, 0.5, 0.3]).log())
    uniform = torch.linspace(0, 1, 10_001)[:-1, None]
    counts = torch.bincount(Categorical(p.logits.expand(10_000, 3)).sample(uniform), minlength=3)
    assert counts.tolist() == pytest.approx([2000, 5000, 3000], abs=2)
    assert Categorical(p.logits.expand(10_000, 3)).sure().sample(uniform).unique().tolist() == [1]
    sure = Gaussian(torch.tensor([2.0]), torch.tensor([0.5])).sure()
    assert sure.sample(torch.tensor([3.0])).tolist() == [2.0]


def test_returns_and_advantages_of_known_rewards():
    assert discounted(torch.ones(3), 0.5).tolist() == [1.75, 1.5, 1.0]
    rng = torch.Generator().manual_seed(0)
    rewards, baseline = torch.randn(2, 4, 6, generator=rng)
    alive = torch.ones(4, 6)
    alive[0, 3:] = alive[1, 5:] = 0
    rewards, baseline = rewards * alive, baseline * alive
    found = advantages(rewards, baseline, alive, 0.9, 1.0)
    raw = (discounted(rewards, 0.9) - baseline)[alive > 0]  # lambda = 1 is return minus baseline
    torch.testing.assert_close(found[alive > 0], (raw - raw.mean()) / raw.std(correction=0), atol=1e-6, rtol=1e-5)
    assert found[alive == 0].tolist() == [0.0] * 4
    td = rewards + 0.9 * torch.cat([baseline[:, 1:], torch.zeros(4, 1)], 1) - baseline  # lambda = 0 is one step
    raw = td[alive > 0]
    found = advantages(rewards, baseline, alive, 0.9, 0.0)[alive > 0]
    torch.testing.assert_close(found, (raw - raw.mean()) / raw.std(correction=0), atol=1e-6, rtol=1e-5)


def test_the_linear_baseline_predicts_what_is_linear_in_its_features():
    rng = torch.Generator().manual_seed(0)
    seen = 3 * torch.randn(6, 20, 2, generator=rng, dtype=torch.float64)
    t = torch.arange(20.0, dtype=torch.float64) / 100
    returns = 1.5 + seen[..., 0] - 0.2 * seen[..., 1] ** 2 + 3 * t - 2 * t**3
    alive = torch.ones(6, 20)
    alive[2, 7:] = 0
    found = linear_baseline(seen, returns, alive)
    torch.testing.assert_close(found[alive > 0], returns[alive > 0], atol=2e-3, rtol=0)
    assert not found[alive == 0].any()
    wild = linear_baseline(1e30 * torch.ones(1, 4, 2), torch.ones(1, 4), torch.ones(1, 4))  # cut at 10
    assert bool(torch.isfinite(wild).all())


class Logits(nn.Module):
    """A policy without observations: the parameter is what it answers."""

    def __init__(self, count):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(count, dtype=torch.float64))

    def forward(self, observations):
        return Categorical(self.logits.expand(*observations.shape[:-1], -1))


def bandit(actions, values, logits):
    """Return the steps of a bandit, each an episode, whose advantages are the values of the arms."""
    n = len(actions)
    values = values.double()
    behaviour = Categorical(logits.detach().expand(n, -1))
    return Experience(torch.zeros(n, 1), actions, values, torch.ones(n).double(), values, values, behaviour)


@pytest.mark.parametrize("form", ["log_likelihood", "likelihood_ratio"])
def test_the_policy_gradient_of_a_bandit_is_the_analytic_one(form):
    policy = Logits(2)
    policy.logits.data = torch.tensor([0.3, -0.4], dtype=torch.float64)
    p = policy.logits.softmax(0).detach()
    worth = torch.tensor([1.0, -2.0], dtype=torch.float64)
    counts = (p * 1_000_000).round().long()  # as often as their probability says
    actions = torch.repeat_interleave(torch.arange(2), counts)
    PolicyGradient(form)(policy, bandit(actions, worth[actions], policy.logits)).backward()
    expected = -(p * (worth - (p * worth).sum()))  # of -E[value] by a softmax's logits
    torch.testing.assert_close(policy.logits.grad, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("form", "unbiased"), [("dice", True), ("likelihood_ratio", False), ("log_likelihood", False)])
def test_the_curvature_of_dice_is_that_of_the_expected_return(form, unbiased):
    """Episodes of two choices, all four of them weighted by their probability, rewarded at their end."""
    policy = Logits(2)
    policy.logits.data = torch.tensor([0.3, -0.4], dtype=torch.float64)
    worth = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)

    def expected(logits):
        p = logits.softmax(0)
        return -(p[:, None] * p[None, :] * worth).sum()

    hessian = torch.zeros(2, 2, dtype=torch.float64)
    slope = torch.zeros(2, dtype=torch.float64)
    for first in range(2):
        for second in range(2):
            actions = torch.tensor([[first, second]])
            value = worth[first, second].expand(1, 2)
            behaviour = Categorical(policy.logits.detach().expand(1, 2, -1))
            ones = torch.ones(1, 2, dtype=torch.float64)
            steps = Experience(torch.zeros(1, 2, 1), actions, value, ones, value, value, behaviour)
            loss = 2 * PolicyGradient(form)(policy, steps)  # its mean is over two steps
            [gradient] = torch.autograd.grad(loss, policy.logits, create_graph=True)
            share = behaviour.log_prob(actions).sum().exp()
            slope += share * gradient.detach()
            hessian += share * torch.stack(
                [torch.autograd.grad(g, policy.logits, retain_graph=True)[0] for g in gradient]
            )
    torch.testing.assert_close(slope, torch.func.grad(expected)(policy.logits.detach()))
    close = torch.allclose(hessian, torch.func.hessian(expected)(policy.logits.detach()), atol=1e-10)
    assert close == unbiased


def test_dice_trains_on_whole_episodes():
    torch.manual_seed(0)
    learner = MetaPolicy(policy_for(NAVIGATION, (8,)), PolicyGradient("dice"), rule=SGD(0.1))
    assert learner.gather(tasks_of()).supports[0].alive.shape == (3, 4, 8)
    learner(tasks_of()).loss.backward()
    plain = MetaPolicy(learner.model, rule=SGD(0.1))  # the first derivative is the same
    for form in (learner, plain):
        assert all(bool(p.grad.isfinite().all()) for p in form.parameters())
    a, b = (one.trace(tasks_of(), 1).metrics["return"] for one in (learner, plain))
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def toy(policy, rng, tasks=3, rows=30):
    """Return fixed steps in a world of two states: before and after adaptation, for a few tasks."""

    def steps():
        seen = nn.functional.one_hot(torch.randint(0, 2, (tasks, rows), generator=rng), 2).double()
        better = torch.randn(tasks, rows, generator=rng).double()
        answers = policy(seen)
        noise = torch.randn(tasks, rows, 1, generator=rng).double()
        behaviour = Gaussian(answers.mean.detach() + 0.1, answers.log_std.detach() - 0.2)
        alive = (torch.rand(tasks, rows, generator=rng) < 0.8).double()
        return Experience(seen, behaviour.sample(noise), better, alive, better * alive, better, behaviour)

    return Gathered([steps(), steps()], steps(), {"return": torch.zeros(tasks)})


@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_the_meta_gradient_in_a_world_of_two_states_is_the_slope_of_the_surrogate(order):
    torch.manual_seed(0)
    policy = GaussianPolicy(2, 1, (3,), "tanh").double()
    learner = MetaPolicy(policy, rule=SGD(0.3), steps=2, meta_gradient=order)
    gathered = toy(policy, torch.Generator().manual_seed(1))
    theta = learner.theta()
    phi = learner.adapted_to(theta, gathered.supports)
    surrogate = learner.judged(gathered, phi)[0].mean()
    grads = torch.autograd.grad(surrogate, list(theta.values()))

    def by_hand(values):
        """Return the surrogate with everything written out, one task after another."""
        total = 0.0
        for i in range(3):
            at = values
            for support in gathered.supports:
                at = [v.detach().requires_grad_() for v in at]
                inner = loss_of(at, support, i)
                at = [v.detach() - 0.3 * g for v, g in zip(at, torch.autograd.grad(inner, at), strict=True)]
            query = gathered.query
            ratio = (likelihood(at, query, i) - query.behaviour.log_prob(query.actions)[i]).exp()
            total -= float((ratio * query.advantages[i] * query.alive[i]).sum() / query.alive[i].sum()) / 3
        return total

    def likelihood(at, steps, i):
        w1, b1, w2, b2, log_std = at
        mean = torch.tanh(steps.observations[i] @ w1.T + b1) @ w2.T + b2
        z = (steps.actions[i] - mean) / log_std.exp()
        return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def loss_of(at, steps, i):
        weighted = likelihood(at, steps, i) * steps.advantages[i] * steps.alive[i]
        return -weighted.sum() / steps.alive[i].sum()

    names = ["body.body.0.weight", "body.body.0.bias", "body.head.weight", "body.head.bias", "log_std"]
    values = [theta[name].detach() for name in names]
    assert surrogate.item() == pytest.approx(by_hand(values), abs=1e-12)
    if order == "first_order":  # theta' moves as theta does
        expected = torch.autograd.grad(learner.judged(gathered, phi)[0].mean(), list(phi.values()))
        for name, found, wanted in zip(theta, grads, expected, strict=True):
            torch.testing.assert_close(found, wanted.sum(0), msg=name)
        return
    by_name = dict(zip(theta, grads, strict=True))
    rng, step = torch.Generator().manual_seed(2), 1e-6
    for number, name in enumerate(names):
        way = torch.randn(values[number].shape, generator=rng).double()
        slopes = []
        for sign in (1, -1):
            moved = list(values)
            moved[number] = values[number] + sign * step * way
            slopes.append(by_hand(moved))
        slope = (slopes[0] - slopes[1]) / (2 * step)
        assert float((by_name[name] * way).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_the_order_of_tasks_and_steps_does_not_matter():
    torch.manual_seed(0)
    policy = GaussianPolicy(2, 1, (3,), "tanh").double()
    learner = MetaPolicy(policy, rule=SGD(0.3), steps=2)
    gathered = toy(policy, torch.Generator().manual_seed(1))

    def shuffled(steps):
        rows = torch.randperm(30, generator=torch.Generator().manual_seed(5))
        take = [leaf[[2, 0, 1]][:, rows] for leaf in steps[:-1]]
        return Experience(*take, Gaussian(*(leaf[[2, 0, 1]][:, rows] for leaf in steps.behaviour)))

    other = Gathered([shuffled(s) for s in gathered.supports], shuffled(gathered.query), gathered.metrics)
    found = []
    for one in (gathered, other):
        loss = learner.judged(one, learner.adapted_to(learner.theta(), one.supports))[0].mean()
        found.append(torch.autograd.grad(loss, list(learner.theta().values())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def tasks_of(**how):
    return draw(Environments(NAVIGATION, episodes=4, horizon=8, **how), seed=0, split="train", indices=range(3))


def test_all_tasks_at_once_give_the_meta_gradient_of_the_librarys_own_loop():
    """The same episodes, adapted task by task as every other learner of the library is."""
    torch.manual_seed(0)
    policy = policy_for(NAVIGATION, (8,))
    learner = MetaPolicy(policy, rule=SGD(0.5), steps=2)
    outcome = learner(tasks_of())
    outcome.loss.backward()
    found = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    slow = super(MetaPolicy, learner).forward(tasks_of())  # -mean(log pi A): another value with the same gradient
    slow.loss.backward()
    torch.testing.assert_close(slow.metrics["return"], outcome.metrics["return"])
    for name, p in policy.named_parameters():
        torch.testing.assert_close(found[name], p.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_without_a_step_size_the_adapted_policy_is_the_initial_one():
    torch.manual_seed(0)
    learner = MetaPolicy(policy_for(NAVIGATION, (8,)), rule=SGD(0.0), steps=1)
    [task, *_] = tasks_of()
    adapted = learner.adapt(task.support, steps=1).model
    for mine, theirs in zip(learner.model.parameters(), adapted.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_oracle_sees_its_goal_and_pooled_advantages_are_of_all_tasks():
    torch.manual_seed(0)
    learner = MetaPolicy(policy_for(NAVIGATION, (8,), told=2), steps=0)
    tasks = tasks_of(told=True, pooled=True)
    gathered = learner.gather(tasks)
    goals = torch.stack([task.support.goal for task in tasks]).float()
    assert torch.equal(gathered.query.observations[:, 0, 2:], goals)
    assert gathered.supports == [] and "return before" not in gathered.metrics
    better = MetaPolicy(policy_for(NAVIGATION, (8,)), steps=0).gather(tasks_of(pooled=True)).query.advantages
    assert float(better.mean()) == pytest.approx(0, abs=1e-5) and abs(float(better[0].mean())) > 1e-3


def test_choices_are_learned_like_moves():
    policy = CategoricalPolicy(2, 3, (8,))
    assert policy.noise(np.random.default_rng(0), 4, 5).shape == (4, 5, 1)
    answers = policy(torch.zeros(4, 5, 2))
    assert answers.sample(policy.noise(np.random.default_rng(0), 4, 5)).shape == (4, 5)
