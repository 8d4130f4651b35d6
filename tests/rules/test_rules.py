import copy
import itertools

import pytest
import torch
from torch import nn

from fastadapt import SGD, Adam, Clip, Momentum
from fastadapt.errors import ConfigError
from fastadapt.rules.rates import learned_rates
from fastadapt.rules.rules import DecayedSGD, with_lr


def falling(params, lr=0.1, decay=0.5):
    optimizer, steps = torch.optim.SGD(params, lr=lr), itertools.count(1)
    optimizer.register_step_post_hook(lambda *_: optimizer.param_groups[0].update(lr=lr / (1 + next(steps) * decay)))
    return optimizer


PAIRS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "decayed_sgd": (DecayedSGD(0.1, 0.5), falling),
    "momentum": (Momentum(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov": (Momentum(0.1, 0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    "adam": (Adam(0.01, beta1=0.9), lambda p: torch.optim.Adam(p, lr=0.01)),
    "adam_of_reptile": (Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.0, 0.999))),
    "adam_other": (Adam(0.01, 0.5, 0.9, 1e-3), lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.9), eps=1e-3)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-7)])
@pytest.mark.parametrize("name", PAIRS)
def test_each_step_equals_the_torch_optimizer(name, dtype, tolerance):
    rule, build = PAIRS[name]
    params = {"w": torch.randn(3, 2, dtype=dtype), "b": torch.randn((), dtype=dtype)}
    theirs = [p.clone().requires_grad_() for p in params.values()]
    optimizer, state = build(theirs), rule.init(params)
    for _ in range(12):
        grads = {n: torch.randn_like(p) for n, p in params.items()}
        for p, g in zip(theirs, grads.values(), strict=True):
            p.grad = g.clone()
        optimizer.step()
        params, state = rule.update(params, grads, state)
        for ours, p in zip(params.values(), theirs, strict=True):
            torch.testing.assert_close(ours, p.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rule", [*(rule for rule, _ in PAIRS.values()), Clip(SGD(0.1), 0.5)])
def test_an_update_changes_nothing_in_place(rule):
    params, grads = {"w": torch.randn(3)}, {"w": torch.randn(3)}
    state = rule.update(params, grads, rule.init(params))[1]
    before = copy.deepcopy((params, grads, state))
    first, second = rule.update(params, grads, state), rule.update(params, grads, state)
    for old, now in zip(map(str, before), map(str, (params, grads, state)), strict=True):
        assert old == now
    assert torch.equal(first[0]["w"], second[0]["w"])


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_clip_bounds_the_norm_over_all_parameters(scale):
    params = {"w": torch.zeros(3, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}
    grads = {n: scale * torch.randn_like(p) for n, p in params.items()}
    norm = torch.cat([g.flatten() for g in grads.values()]).norm()
    moved, _ = Clip(SGD(1.0), max_norm=0.5).update(params, grads, ())
    for name, g in grads.items():
        torch.testing.assert_close(moved[name], -g * min(1.0, 0.5 / float(norm)))


def test_clip_without_a_bound_is_the_rule_itself():
    params, grads = {"w": torch.randn(3)}, {"w": torch.randn(3)}
    assert torch.equal(
        Clip(SGD(0.1), float("inf")).update(params, grads, ())[0]["w"], SGD(0.1).update(params, grads, ())[0]["w"]
    )


def test_derivative_through_clip_and_adam_is_finite_at_a_zero_gradient():
    for rule in (Clip(SGD(0.1)), Clip(SGD(0.1), float("inf")), Adam(0.1), Adam(0.1, beta1=0.9)):
        grad = torch.zeros(2, requires_grad=True)
        moved, _ = rule.update({"w": torch.ones(2)}, {"w": grad}, rule.init({"w": torch.ones(2)}))
        moved["w"].sum().backward()
        assert grad.grad.isfinite().all()
        assert torch.equal(moved["w"], torch.ones(2))


@pytest.mark.parametrize("rule", [SGD(0.1), Momentum(0.1, 0.5), Adam(0.1), Clip(Clip(Adam(0.1), 3.0), 2.0)])
def test_another_rate_replaces_only_the_rate(rule):
    other = with_lr(rule, 0.7)
    assert other.lr == 0.7 and rule.lr == 0.1
    assert with_lr(other, 0.1) == rule


def test_a_rate_may_be_a_tensor_with_its_own_gradient():
    lr = torch.tensor(0.1, requires_grad=True)
    SGD(lr).update({"w": torch.tensor(1.0)}, {"w": torch.tensor(3.0)}, ())[0]["w"].backward()
    assert lr.grad == -3.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: SGD(-0.1),
        lambda: SGD(float("nan")),
        lambda: SGD(float("inf")),
        lambda: Momentum(0.1, 1.0),
        lambda: Adam(0.1, beta1=1.0),
        lambda: Adam(0.1, beta2=-0.1),
        lambda: Adam(0.1, eps=0.0),
        lambda: Clip(SGD(0.1), 0.0),
        lambda: DecayedSGD(-0.1),
        lambda: DecayedSGD(0.1, -1.0),
        lambda: DecayedSGD(0.1, float("inf")),
    ],
)
def test_settings_out_of_range_are_refused(build):
    with pytest.raises(ConfigError):
        build()


@pytest.mark.parametrize("name", PAIRS)
def test_a_complex_parameter_is_two_real_ones_as_in_torch(name):
    rule, build = PAIRS[name]
    params = {"z": torch.randn(3, 2, dtype=torch.complex128), "w": torch.randn(4, dtype=torch.float64)}
    theirs = [p.clone().requires_grad_() for p in params.values()]
    optimizer, state = build(theirs), rule.init(params)
    for step in range(12):
        grads = {n: torch.randn_like(p) if step else torch.zeros_like(p) for n, p in params.items()}
        for p, g in zip(theirs, grads.values(), strict=True):
            p.grad = g.clone()
        optimizer.step()
        params, state = rule.update(params, grads, state)
        for ours, p in zip(params.values(), theirs, strict=True):
            torch.testing.assert_close(ours, p.detach(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("rule", [rule for rule, _ in PAIRS.values()] + [Clip(Adam(0.1), 0.5)])
def test_complex_steps_can_be_differentiated_and_batched(rule):
    target = torch.randn(5, 3, dtype=torch.complex128)

    def end(z, steps=7):
        params, state = {"z": z}, rule.init({"z": z})
        for _ in range(steps):
            params, state = rule.update(params, {"z": 2 * (params["z"] - target[0])}, state)
        return torch.view_as_real(params["z"]).square().sum()

    many = torch.func.vmap(end)(target)
    torch.testing.assert_close(many, torch.stack([end(z) for z in target]))
    assert torch.autograd.gradcheck(end, torch.randn(3, dtype=torch.complex128, requires_grad=True))


def test_clip_bounds_the_norm_of_complex_gradients_as_torch_does():
    grads = {"z": torch.randn(3, dtype=torch.complex128), "w": torch.randn(2, dtype=torch.float64)}
    held = [nn.Parameter(torch.zeros_like(g)) for g in grads.values()]
    for p, g in zip(held, grads.values(), strict=True):
        p.grad = g.clone()
    norm = nn.utils.clip_grad_norm_(held, 0.5)
    moved, _ = Clip(SGD(1.0), 0.5).update({n: torch.zeros_like(g) for n, g in grads.items()}, grads, ())
    for p, ours in zip(held, moved.values(), strict=True):
        torch.testing.assert_close(ours, -p.grad * (norm + 1e-6) / norm)  # torch adds 1e-6


def end_of(rule, steps=4):
    params, state = {"w": torch.ones(3, dtype=torch.float64)}, rule.init({"w": torch.ones(3, dtype=torch.float64)})
    for _ in range(steps):
        params, state = rule.update(params, {"w": params["w"] ** 3 - 0.2}, state)
    return params["w"].sum()


@pytest.mark.parametrize("start", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(
    "build",
    [
        lambda x: Momentum(0.1, x),
        lambda x: Momentum(0.1, x, nesterov=True),
        lambda x: Adam(0.1, beta1=x),
        lambda x: Adam(0.1, beta1=0.9, beta2=x + 0.05),
        lambda x: Adam(0.1, beta1=0.9, eps=x + 1e-3),
        lambda x: DecayedSGD(0.1, x),
        lambda x: Clip(SGD(0.1), 0.1 + x),
    ],
)
def test_whatever_a_rule_holds_may_be_a_tensor_with_its_own_gradient(build, start):
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(end_of(build(x)).detach(), end_of(build(start)), rtol=1e-12, atol=0)
    (grad,) = torch.autograd.grad(end_of(build(x)), x)
    step = 1e-6
    if start:
        by_differences = (end_of(build(start + step)) - end_of(build(start - step))) / (2 * step)
    else:  # one-sided, to the second order
        a, b, c = (end_of(build(start + n * step)) for n in range(3))
        by_differences = (-3 * a + 4 * b - c) / (2 * step)
    torch.testing.assert_close(grad, by_differences, rtol=1e-4, atol=1e-6)


def test_rates_of_a_complex_network_are_real():
    net = nn.Linear(2, 1, dtype=torch.complex64)
    assert {rate.dtype for rate in learned_rates(net, 0.1).values()} == {torch.float32}


def test_another_rate_is_put_into_a_rule_that_is_no_dataclass():
    class Own:
        def __init__(self):
            self.lr = 0.1

    class Fixed:
        lr = property(lambda self: 0.1)

    rule = Own()
    assert with_lr(rule, 0.7).lr == 0.7 and rule.lr == 0.1
    with pytest.raises(ConfigError, match="Fixed has no attribute lr that can be set"):
        with_lr(Fixed(), 0.7)
