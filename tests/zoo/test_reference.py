"""The reference itself, held to closed forms and to torch's optimizers; and whether the zoo could show a fault."""

import copy
from types import SimpleNamespace

import pytest
import torch

from zoo import losses, modules, reference
from zoo.trial import RULES, Written, tasks_of

pytestmark = pytest.mark.usefixtures("double")
ZOO = {**modules.ZOO, **losses.ZOO}


@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_of_a_quadratic(first_order):
    """With L = |theta - c|^2 / 2 and k steps, theta^k - c = (1 - alpha)^k (theta - c)."""
    theta = {"w": torch.randn(3, requires_grad=True)}
    s, q = torch.randn(3), torch.randn(3)
    losses, got = reference.maml(
        lambda p, c: (p["w"] - c).square().sum() / 2,
        theta,
        ["w"],
        theta,
        [SimpleNamespace(support=s, query=q)],
        reference.sgd(0.1),
        3,
        first_order=first_order,
    )
    start = theta["w"].detach()
    at_query = s + 0.9**3 * (start - s) - q
    torch.testing.assert_close(losses, at_query.square().sum().unsqueeze(0) / 2)
    torch.testing.assert_close(got["w"], at_query * (1 if first_order else 0.9**3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("rule", RULES)
def test_the_rules_are_torchs(rule, dtype):
    w, c = torch.randn(3, dtype=dtype), torch.randn(3, dtype=dtype)

    def far(p, c):
        return (p["w"] - c).abs().pow(3).sum()

    path = reference.descend(far, {"w": w.clone().requires_grad_()}, ["w"], c, RULES[rule][1], 7)
    own = torch.nn.Parameter(w.clone())
    optimizer = torch.optim.SGD([own], 0.2) if rule == "sgd" else torch.optim.Adam([own], 0.05, (0.9, 0.99))
    for at in path[1:]:
        optimizer.zero_grad()
        far({"w": own}, c).backward()
        optimizer.step()
        torch.testing.assert_close(at["w"].detach(), own.detach(), rtol=1e-12, atol=1e-12)


def test_the_error_sees_each_tensor():
    want = {"a": torch.ones(3), "b": torch.full((), 1e-2)}
    assert reference.error(want, want) == 0
    for name in want:
        got = copy.deepcopy(want)
        got[name] *= 1 + 1e-9
        assert 0.5e-9 < reference.error(got, want) < 2e-9
    for got in ({"a": want["a"]}, {**want, "b": None}, {**want, "b": torch.tensor(float("nan"))}):
        with pytest.raises(AssertionError):
            reference.error(got, want)


@pytest.mark.parametrize("name", ZOO)
def test_what_each_comparison_could_miss_is_large(name):
    """The inner steps move every tensor that is used, and the second derivative matters."""
    specimen = ZOO[name]
    model = specimen.build()
    loss = specimen.loss if specimen.loss_of is None else specimen.loss_of(model)
    specimen.after(model)
    written, tasks = Written(specimen, model, loss), tasks_of(specimen, 1)
    path = reference.descend(specimen.written_out, written.theta, written.names, tasks[0].support, RULES["sgd"][1], 2)
    moved = [n for n in written.names if reference.norm(path[-1][n] - path[0][n]) > 1e-4 * reference.norm(path[0][n])]
    assert set(written.names) - set(moved) <= {"unused"}
    value = specimen.written_out(written.theta, tasks[0].support)
    grads = reference.gradients(value, {n: written.theta[n] for n in written.names}, create_graph=False)
    # Adam would blow up what is zero but for rounding
    assert not any(((g.abs() > 0) & (g.abs() < 1e-10)).any() for g in grads.values())
    exact, first_order = (
        reference.maml(
            specimen.written_out,
            written.theta,
            written.names,
            written.wrt,
            tasks,
            RULES["sgd"][1],
            2,
            first_order=first_order,
        )[1]
        for first_order in (False, True)
    )
    assert reference.error(exact, first_order) > 1e-3
