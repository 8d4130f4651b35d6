"""The leading-order analysis of Nichol et al. 2018: MAML, first-order MAML and Reptile along one inner path."""

import itertools

import pytest
import torch

from fastadapt import MLP, MSE, SGD
from fastadapt.inner.loop import descend

pytestmark = pytest.mark.usefixtures("double")

BOWLS = [
    ([[2.0, 0.5], [0.5, 1.0]], [0.0, 1.0]),
    ([[1.0, 0.0], [0.0, 3.0]], [2.0, 0.0]),
    ([[1.5, -0.5], [-0.5, 1.0]], [-1.0, 1.0]),
    ([[0.5, 0.2], [0.2, 2.0]], [0.5, -0.5]),
]


def bowl(phi, batch):
    a, c = batch
    return 0.5 * (phi["w"] - c) @ a @ (phi["w"] - c)


def directions(loss, start, batches, alpha):
    """Return the directions (MAML, first-order MAML, Reptile) from the library's inner loop on `batches` in order."""

    def end(phi, count, through):
        for step in descend(
            lambda p, batch, j: (loss(p, batch), {}),
            phi,
            lambda j, p: batches[j],
            SGD(alpha),
            count,
            through=through,
        ):
            phi = step.params
        return phi

    found = []
    for through in (True, False):
        phi = {n: p.detach().requires_grad_() for n, p in start.items()}
        last = loss(end(phi, len(batches) - 1, through), batches[-1])
        found.append(flat(torch.autograd.grad(last, list(phi.values()))))
    final = end(start, len(batches), False)
    return (*found, flat((start[n] - final[n]) / alpha for n in start))


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


def gradients_and_hessians(loss, start, batches):
    sizes, names = [p.numel() for p in start.values()], list(start)

    def at(v, batch):
        return loss({n: part.view_as(start[n]) for n, part in zip(names, v.split(sizes), strict=True)}, batch)

    v = flat(start.values())
    return (
        [torch.func.grad(at)(v, b) for b in batches],
        [torch.autograd.functional.hessian(lambda u, b=b: at(u, b), v) for b in batches],
    )


def leading_order(loss, start, batches, alpha):
    g, h = gradients_and_hessians(loss, start, batches)
    k = len(batches)
    first = g[-1] - alpha * h[-1] @ sum(g[:-1])
    maml = first - alpha * sum(h[j] @ g[-1] for j in range(k - 1))
    reptile = sum(g) - alpha * sum(h[i] @ g[j] for i in range(k) for j in range(i))
    return maml, first, reptile


def bowls(count):
    return {"w": torch.tensor([1.0, 2.0])}, [(torch.tensor(a), torch.tensor(c)) for a, c in BOWLS[:count]]


def test_three_bowls_give_the_golden_directions():
    start, batches = bowls(3)
    golden = [(2.44052433, -0.07695814), (2.51515, -0.067175), (3.99015, 7.387825)]
    leading = [(2.44, -0.08), (2.515, -0.0675), (3.99, 7.3875)]
    for got, want in zip(directions(bowl, start, batches, 0.01), golden, strict=True):
        torch.testing.assert_close(got, torch.tensor(want), rtol=0, atol=5e-9)
    for got, want in zip(leading_order(bowl, start, batches, 0.01), leading, strict=True):
        torch.testing.assert_close(got, torch.tensor(want), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "residuals"),
    [(2, {0.02: 0.0029, 0.01: 0.000725, 0.005: 0.00018125}), (4, {0.02: 0.0523585, 0.01: 0.0133207, 0.005: 0.0033594})],
)
def test_what_leading_order_leaves_over_is_the_golden_residual(count, residuals):
    start, batches = bowls(count)
    for alpha, want in residuals.items():
        exact, leading = directions(bowl, start, batches, alpha), leading_order(bowl, start, batches, alpha)
        gaps = [float((a - b).abs().max()) for a, b in zip(exact, leading, strict=True)]
        assert gaps[0] == pytest.approx(want, abs=1e-6)
        if count == 2:  # exact for quadratics
            assert max(gaps[1:]) < 1e-13


@pytest.mark.parametrize(
    ("k", "golden"), [(2, (1.998, 1.000, 1.000)), (3, (3.99, 1.998, 2.998)), (4, (5.97, 2.995, 5.993))]
)
def test_coefficients_of_the_inner_product_term(k, golden):
    alpha = 1e-3
    start, batches = bowls(3)
    g, h = gradients_and_hessians(bowl, start, batches)
    mean_gradient = sum(g) / 3
    inner = sum(h[i] @ g[j] for i in range(3) for j in range(3)) / 9
    totals = [torch.zeros(2) for _ in range(3)]
    for chosen in itertools.product(batches, repeat=k):
        for total, d in zip(totals, directions(bowl, start, chosen, alpha), strict=True):
            total += d / 3**k
    for total, share, want in zip(totals, (1, 1, k), golden, strict=True):
        recovered = (total - share * mean_gradient) / (-alpha * inner)
        # one number for both coordinates, up to the next order in alpha
        assert float((recovered @ (inner * inner)) / (inner @ inner)) == pytest.approx(want, rel=5e-3)


def test_residual_of_a_smooth_network_falls_with_the_square_of_alpha():
    net = MLP(2, (4,), 1, activation="tanh", init_std=None)
    start = {n: p.detach() for n, p in net.named_parameters()}
    batches = [(torch.randn(5, 2), torch.randn(5, 1)) for _ in range(3)]

    def loss(p, batch):
        return MSE()(lambda x: torch.func.functional_call(net, p, (x,)), batch)

    gaps = []
    for alpha in (4e-3, 2e-3, 1e-3):
        exact, leading = directions(loss, start, batches, alpha), leading_order(loss, start, batches, alpha)
        gaps.append([float((a - b).norm()) for a, b in zip(exact, leading, strict=True)])
    for coarse, fine in itertools.pairwise(gaps):
        for a, b in zip(coarse, fine, strict=True):
            assert 1.9 < torch.log2(torch.tensor(a / b)) < 2.1
