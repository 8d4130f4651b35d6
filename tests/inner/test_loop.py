import pytest
import torch
from torch import nn

from fastadapt import MLP, MSE, SGD, Adam, adapt
from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Autograd, Functional
from fastadapt.inner.loop import descend
from reference import adam, adapted, sgd

pytestmark = pytest.mark.usefixtures("double")


def problem():
    net = MLP(2, (4,), 1, activation="tanh", init_std=None)
    theta = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}

    def loss(params, batch):
        return MSE()(lambda x: torch.func.functional_call(net, params, (x,)), batch)

    return net, theta, loss, (torch.randn(5, 2), torch.randn(5, 1))


@pytest.mark.parametrize("order", ["exact", "first_order"])
@pytest.mark.parametrize(("ours", "theirs"), [(SGD(0.1), sgd(0.1)), (Adam(0.01, 0.9), adam(0.01, 0.9))])
def test_adapt_is_differentiable_like_a_loop_written_by_hand(ours, theirs, order):
    net, theta, loss, batch = problem()
    phi = adapt(loss, theta, batch, ours, 3, meta_gradient=order)
    want = adapted(net, MSE(), theta, batch, theirs, 3, first_order=order == "first_order")
    for name in theta:
        torch.testing.assert_close(phi[name], want[name])
    pull = {n: torch.randn_like(p) for n, p in theta.items()}
    a, b = (torch.autograd.grad(sum((v[n] * pull[n]).sum() for n in v), list(theta.values())) for v in (phi, want))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y)


def test_first_order_passes_the_gradient_straight_through():
    _, theta, loss, batch = problem()
    phi = adapt(loss, theta, batch, SGD(0.1), 4, meta_gradient="first_order")
    for p, g in zip(
        theta.values(), torch.autograd.grad(sum(v.sum() for v in phi.values()), list(theta.values())), strict=True
    ):
        assert torch.equal(g, torch.ones_like(p))


def test_no_step_returns_the_parameters_themselves():
    _, theta, loss, batch = problem()
    phi = adapt(loss, theta, batch, SGD(0.1), 0)
    assert all(phi[name] is theta[name] for name in theta)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_adapting_without_gradients_leaves_no_graph(without):
    _, theta, loss, batch = problem()
    with without():
        phi = adapt(loss, theta, tuple(v + 0 for v in batch), SGD(0.1), 2)
    assert not any(p.requires_grad for p in phi.values())
    assert not torch.equal(phi["head.bias"], theta["head.bias"])


def test_a_parameter_that_the_loss_never_touches_stays():
    theta = {"w": torch.tensor(1.0, requires_grad=True), "idle": torch.tensor(2.0, requires_grad=True)}
    phi = adapt(lambda p, _: p["w"] ** 2, theta, None, SGD(0.1), 2)
    assert phi["idle"] == 2.0
    phi["idle"].backward()
    assert theta["idle"].grad == 1.0


@pytest.mark.parametrize("calculus", [Autograd(), Functional()])
@pytest.mark.parametrize("through", [True, False])
def test_each_step_sees_its_own_batch_and_reports_the_loss_before_it(calculus, through):
    targets, seen = torch.tensor([1.0, 3.0, -2.0]), []

    def batch_at(j, params):
        seen.append((j, params["w"].item()))
        return targets[j]

    steps = list(
        descend(
            lambda p, c, j: ((p["w"] - c) ** 2 / 2, {"step": torch.tensor(j)}),
            {"w": torch.tensor(0.0)},
            batch_at,
            SGD(0.5),
            3,
            through=through,
            calculus=calculus,
        )
    )
    w, expected = 0.0, []
    for c in targets.tolist():
        expected.append(((w - c) ** 2 / 2, w + 0.5 * (c - w)))
        w = expected[-1][1]
    assert [s.loss.item() for s in steps] == pytest.approx([loss for loss, _ in expected])
    assert [s.params["w"].item() for s in steps] == pytest.approx([after for _, after in expected])
    assert [int(s.aux["step"]) for s in steps] == [0, 1, 2]
    assert seen == [(0, 0.0), (1, expected[0][1]), (2, expected[1][1])]


def test_a_given_state_is_continued():
    rule, theta = Adam(0.1, beta1=0.5), {"w": torch.tensor(1.0)}

    def objective(p, batch, j):
        return p["w"] ** 2, {}

    whole = list(descend(objective, theta, lambda j, p: None, rule, 4))
    half = list(descend(objective, theta, lambda j, p: None, rule, 2))[-1]
    rest = list(descend(objective, half.params, lambda j, p: None, rule, 2, state=half.state))
    assert torch.equal(rest[-1].params["w"], whole[-1].params["w"])


@pytest.mark.parametrize("calculus", [Autograd(), Functional()])
def test_outer_gradient_differentiates_a_nested_inner_gradient(calculus):
    def objective(theta):
        inner, value, _ = calculus.inner(lambda p: (p["w"].sin() * 2, {}), theta, True)
        return inner["w"] ** 2, {"value": value}

    w = torch.tensor(0.4)
    grads, value, aux = calculus.outer(objective, {"w": w})
    torch.testing.assert_close(grads["w"], -8 * w.cos() * w.sin())
    torch.testing.assert_close(value, 4 * w.cos() ** 2)
    torch.testing.assert_close(aux["value"], 2 * w.sin())
    assert not value.requires_grad and not aux["value"].requires_grad


def test_settings_out_of_range_are_refused():
    _, theta, loss, batch = problem()
    with pytest.raises(ConfigError, match="-1"):
        adapt(loss, theta, batch, SGD(0.1), -1)
    with pytest.raises(ConfigError, match="Implicit"):
        adapt(loss, theta, batch, SGD(0.1), 1, meta_gradient="implicit")


def test_module_parameters_may_be_passed_directly():
    line = nn.Linear(2, 1)
    x, y = torch.randn(4, 2), torch.randn(4, 1)
    phi = adapt(
        lambda p, b: MSE()(lambda v: torch.func.functional_call(line, p, (v,)), b),
        dict(line.named_parameters()),
        (x, y),
        SGD(0.1),
        2,
    )
    torch.func.functional_call(line, phi, (x,)).sum().backward()
    assert line.weight.grad.abs().max() > 0


@pytest.mark.parametrize("given", [nn.MSELoss().forward, [torch.ones(2)], None])
def test_what_can_not_be_adapted_is_told_with_the_order_of_arguments(given):
    with pytest.raises(ConfigError, match=r"a module or a mapping of tensors .* adapt\(loss, module, support, rule"):
        adapt(nn.Linear(2, 1), given, (torch.ones(3, 2), torch.ones(3, 1)), SGD(0.1), steps=1)
