"""TRPO: the length of a step in a bandit, the Hessian of the divergence, conjugate gradients, and what is rejected."""

import math

import pytest
import torch

from fastadapt import MAML
from fastadapt.errors import ConfigError
from fastadapt.rl.curvature import conjugate_gradients, hessian_products
from fastadapt.rl.distributions import Gaussian
from fastadapt.rl.environments import family
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import GaussianPolicy, policy_for
from fastadapt.rl.ppo import PPO
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO, _functions
from fastadapt.rules.rules import SGD
from fastadapt.tasks import draw

NAVIGATION = family("navigation-v0")


@pytest.mark.parametrize("product", ["exact", "difference"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_a_gaussian_bandit_moves_by_sigma_times_the_root_of_two_delta(scale, product):
    sigma, mu = 0.7, torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    old = Gaussian(mu.detach().clone(), torch.full((1,), math.log(sigma), dtype=torch.float64))

    def judged(phi):
        return (scale * phi[0]).sum(), old.kl(Gaussian(phi[0], old.log_std))

    moved, norm, facts = TRPO(max_kl=0.01, product=product).step([mu], lambda: [mu], judged)
    assert moved and float(norm) == pytest.approx(scale)
    away = float(mu.detach() - old.mean)
    assert away == pytest.approx(-sigma * math.sqrt(2 * 0.01), rel=1e-3)  # however large the gradient is
    assert facts["line search"] == 0 and facts["kl"] == pytest.approx(0.01, rel=2e-3) and facts["kl"] <= 0.01


def test_conjugate_gradients_solve_a_random_system():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=rng, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(12), torch.randn(12, generator=rng, dtype=torch.float64)
    found = conjugate_gradients(lambda v: matrix @ v, target, steps=40, least=1e-24)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target))


def small(steps, order="exact"):
    torch.manual_seed(0)
    learner = MetaPolicy(policy_for(NAVIGATION, (5,), "tanh").double(), rule=SGD(0.5), steps=steps, meta_gradient=order)
    source = Environments(NAVIGATION, episodes=3, horizon=6)
    gathered = learner.gather(draw(source, seed=0, split="train", indices=range(2)))
    return learner, gathered


@pytest.mark.parametrize(("steps", "order"), [(0, "exact"), (1, "exact"), (2, "exact"), (1, "first_order")])
def test_the_products_are_those_of_the_hessian_of_the_divergence(steps, order):
    learner, gathered = small(steps, order)
    params = list(learner.theta().values())
    adapted, judged = _functions(learner, gathered, [])
    phi = adapted()
    leaves = [p.detach().requires_grad_() for p in phi]
    product = hessian_products(params, phi, leaves, judged(leaves)[1], damping=0.1)
    vector = torch.randn(sum(p.numel() for p in params), generator=torch.Generator().manual_seed(1)).double()
    # differentiated twice through the inner steps, with nothing left out
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(judged(adapted())[1], params, create_graph=True)])
    assert slope.detach().abs().max() < 1e-12
    twice = torch.autograd.grad(slope, params, vector, retain_graph=True)
    torch.testing.assert_close(product(vector), torch.cat([g.flatten() for g in twice]) + 0.1 * vector)


def test_without_inner_steps_the_hessian_is_the_fisher_matrix():
    learner, gathered = small(0)
    params = list(learner.theta().values())
    _, judged = _functions(learner, gathered, [])
    leaves = [p.detach().requires_grad_() for p in params]
    product = hessian_products(params, params, leaves, judged(leaves)[1], damping=0.0)
    size = sum(p.numel() for p in params)
    hessian = torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])
    fisher = torch.zeros(size, size, dtype=torch.float64)
    query, policy = gathered.query, learner.model
    for i in range(2):
        for t in range(query.alive.shape[1]):
            answer = policy(query.observations[i, t].double())
            for k in range(2):  # E[s s'] of a normal distribution: outer products of its mean and of its log deviation
                mean = torch.autograd.grad(answer.mean[k], params, retain_graph=True, allow_unused=True)
                log_std = torch.autograd.grad(answer.log_std[k], params, retain_graph=True, allow_unused=True)
                for slope, weight in ((mean, float(torch.exp(-2 * answer.log_std[k].detach()))), (log_std, 2.0)):
                    flat = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten()
                                      for g, p in zip(slope, params, strict=True)])  # fmt: skip
                    fisher += weight * torch.outer(flat, flat) / (2 * query.alive.shape[1])
    torch.testing.assert_close(hessian, fisher, atol=1e-9, rtol=1e-6)


def test_every_accepted_step_keeps_the_bound_and_improves():
    learner, _ = small(1)
    learner.float()
    source = Environments(NAVIGATION, episodes=4, horizon=10)
    for number in range(4):
        before = [p.detach().clone() for p in learner.parameters()]
        tasks = draw(source, seed=0, split="train", indices=range(3 * number, 3 * number + 3))
        taken = TRPO()(learner, tasks, None, None)
        same = all(torch.equal(a, b) for a, b in zip(before, learner.parameters(), strict=True))
        assert taken.moved and 0 <= taken.facts["kl"] <= 0.01
        assert same == (taken.facts["line search"] == -1)
        assert same or taken.facts["improvement"] > 0


def test_a_step_that_no_length_improves_is_rejected():
    theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)

    def judged(phi):  # its slope at 1 is the wrong way round for every length that is tried
        return (phi[0] - 1).abs().sum() + (phi[0] - phi[0].detach()).sum() * 3, 0.5 * (phi[0] - 1).square().sum()

    moved, _, facts = TRPO().step([theta], lambda: [theta], judged)
    assert moved and facts["line search"] == -1 and theta.item() == 1.0


def test_numbers_that_are_not_finite_move_nothing():
    theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    moved, _, _ = TRPO().step(
        [theta], lambda: [theta], lambda phi: (phi[0].sum() * math.nan, 0.5 * (phi[0] - 1).square().sum())
    )
    assert not moved and theta.item() == 1.0


def test_curvature_of_some_tasks_and_settings_out_of_range():
    learner, _ = small(1)
    tasks = draw(Environments(NAVIGATION, episodes=3, horizon=6), seed=0, split="train", indices=range(4))
    assert TRPO(curvature_share=0.5)(learner.float(), tasks, None, None).facts["kl"] <= 0.01
    with pytest.raises(ConfigError, match=r"curvature_share in \(0, 1\], got 0"):
        TRPO(curvature_share=0)
    with pytest.raises(ConfigError, match="max_kl > 0"):
        TRPO(max_kl=-1)
    for step in (TRPO(), PPO()):
        with pytest.raises(ConfigError, match="got a MAML; leave outer_step out"):
            step(MAML(learner.model), tasks, None, None)


def test_a_log_deviation_is_adapted_and_kept_above_its_floor():
    policy = GaussianPolicy(2, 1, (3,))
    policy.log_std.data.fill_(-50.0)
    assert policy(torch.zeros(1, 2)).log_std.item() == pytest.approx(math.log(1e-6))
    assert "log_std" in MetaPolicy(policy).theta()
