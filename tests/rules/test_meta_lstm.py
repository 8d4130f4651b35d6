"""The meta-learner LSTM, against its equations written out number by number, and against finite differences."""

import math

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Clip, Execution, FirstOrder, Reptile, Task, adapt
from fastadapt.errors import ConfigError, TaskError
from fastadapt.rules.meta_lstm import Gates, MetaLSTM, preprocessed
from fastadapt.rules.rules import with_lr

pytestmark = pytest.mark.usefixtures("double")


def lively(feedback="logits", hidden=2):
    """Gates whose weights are large enough to matter."""
    gates = Gates(hidden, feedback)
    with torch.no_grad():
        for p in gates.parameters():
            if p.numel() > 1:
                p.normal_(std=0.5)
    return gates


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


def tasks(count=2):
    return [Task(*((torch.randn(n, 2), torch.randn(n, 1)) for n in (5, 4))) for _ in range(count)]


# ---- by hand: one number at a time, plain Python but for autograd's tensors ---------------------------------


def seen_by_hand(x):
    if abs(float(x)) >= math.exp(-10):
        return [x.abs().log() / 10, x.sign()]
    return [torch.tensor(-1.0), math.exp(10) * x]


def sigma(x):
    return 1 / (1 + torch.exp(-x))


def cell_by_hand(g, loss, theta, before, w, feedback):
    """Return the new number and what is remembered of it; `w` are the weights by name, `g` and `loss` constants."""
    h, c, i, f = before
    x = [*seen_by_hand(g), *seen_by_hand(loss)]
    size = len(h)
    inner = [
        sum(w["seen_weight"][r][k] * x[k] for k in range(4))
        + sum(w["hidden_weight"][r][k] * h[k] for k in range(size))
        + w["bias"][r]
        for r in range(4 * size)
    ]
    write, keep, value, show = (inner[part * size : (part + 1) * size] for part in range(4))
    c = [sigma(keep[k]) * c[k] + sigma(write[k]) * torch.tanh(value[k]) for k in range(size)]
    h = [sigma(show[k]) * torch.tanh(c[k]) for k in range(size)]

    def second(name, told):
        row = w[f"{name}_weight"]
        return sum(row[k] * h[k] for k in range(size)) + row[size] * theta + row[size + 1] * told + w[f"{name}_bias"][0]

    i, f = second("input", i), second("forget", f)
    new = sigma(f) * theta - sigma(i) * g
    return new, (h, c, i, f) if feedback == "logits" else (h, c, sigma(i), sigma(f))


def objective_by_hand(theta, gates, task, steps, feedback, fixed=None):
    """Return the query loss after some steps, and the gradients and losses that the steps saw.

    With `fixed`, these are taken as given in place of those at the parameters.
    """
    w = dict(gates)
    zero = torch.tensor(0.0)
    size = len(w["bias"]) // 4
    memory = {name: [([zero] * size, [zero] * size, zero, zero)] * p.numel() for name, p in theta.items()}
    seen = []

    def error(at, batch):
        x, y = batch
        hidden = torch.tanh(x @ at["0.weight"].T + at["0.bias"])
        return (hidden @ at["2.weight"].T + at["2.bias"] - y).square().mean()

    for step in range(steps):
        if fixed is None:
            at = {name: p.detach().requires_grad_() for name, p in theta.items()}
            loss = error(at, task.support)
            grads = dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
            seen.append((grads, loss.detach()))
        else:
            seen.append(fixed[step])
        grads, loss = seen[-1]
        new = {}
        for name, p in theta.items():
            pairs = [
                cell_by_hand(g, loss, number, before, w, feedback)
                for g, number, before in zip(grads[name].reshape(-1), p.reshape(-1), memory[name], strict=True)
            ]
            new[name] = torch.stack([number for number, _ in pairs]).view(p.shape)
            memory[name] = [kept for _, kept in pairs]
        theta = new
    return error(theta, task.query), seen


def by_hand(learner, batch, steps, feedback):
    """Return the mean objective and its gradient to theta and gates, by plain autograd with gradients as constants."""
    theta = {n: p.detach().clone().requires_grad_() for n, p in learner.model.named_parameters()}
    gates = {n: p.detach().clone().requires_grad_() for n, p in learner.rule.gates.named_parameters()}
    loss = torch.stack([objective_by_hand(theta, gates, task, steps, feedback)[0] for task in batch]).mean()
    grads = torch.autograd.grad(loss, [*theta.values(), *gates.values()])
    return loss.detach(), dict(zip([*theta, *gates], grads, strict=True))


def test_preprocessing_has_the_values_of_the_paper():
    got = preprocessed(torch.tensor([1, 0.1, -1e-3, 1e-6, 0.0]))
    want = [[0, -0.230259, -0.690776, -1, -1], [1, 1, -1, 0.0220265, 0]]
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-6)


def test_first_weights_lie_where_the_paper_has_them():
    gates = Gates()
    for name, p in gates.named_parameters():
        low, high = {"input_bias": (-5, -4), "forget_bias": (4, 5)}.get(name, (-0.01, 0.01))
        assert p.min() >= low and p.max() <= high and (p.numel() == 1 or p.std() > 0.003), name
    assert gates.hidden == 20


@pytest.mark.parametrize("order", ["first_order", pytest.param("exact", marks=pytest.mark.long)])
def test_with_constant_gates_it_is_gradient_descent(order):
    alpha, gates, model = 0.3, Gates(4), net()
    with torch.no_grad():
        for p in gates.parameters():
            p.zero_()
        gates.forget_bias.fill_(40.0)  # whose sigmoid is 1
        gates.input_bias.fill_(math.log(alpha / (1 - alpha)))
    rules = MetaLSTM(1.0, gates), SGD(alpha)
    lstm, sgd = (MAML(model, rule=rule, steps=3, meta_gradient=order) for rule in rules)
    batch, grads = tasks(), []
    for learner in (lstm, sgd):
        model.zero_grad()
        learner(batch).loss.backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(lstm.trace(batch).losses, sgd.trace(batch).losses, rtol=1e-13, atol=0)


IN_SEGMENTS = pytest.param(7, "vmap", marks=pytest.mark.long)


@pytest.mark.parametrize("feedback", ["logits", "gates"])
@pytest.mark.parametrize("steps, route", [(1, "vmap"), (3, "loop"), IN_SEGMENTS])
def test_meta_gradient_is_that_of_the_equations(feedback, steps, route):
    model, gates, batch = net(), lively(feedback), tasks()
    learner = MAML(model, rule=MetaLSTM(gates=gates), steps=steps, meta_gradient=FirstOrder(), route=route)
    outcome = learner(batch)
    outcome.loss.backward()
    loss, want = by_hand(learner, batch, steps, feedback)
    torch.testing.assert_close(outcome.loss.detach(), loss, rtol=1e-12, atol=0)
    got = {n: p.grad for n, p in (*model.named_parameters(), *gates.named_parameters())}
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-9, atol=1e-12, msg=name)


def test_meta_gradient_is_a_finite_difference_with_gradients_and_losses_held():
    model, gates, [task] = net(), lively(), tasks(1)
    learner = MAML(model, rule=MetaLSTM(gates=gates), steps=3, meta_gradient="first_order")
    learner(task).loss.backward()
    theta = {n: p.detach() for n, p in model.named_parameters()}
    weights = {n: p.detach() for n, p in gates.named_parameters()}
    _, seen = objective_by_hand(theta, weights, task, 3, "logits")

    def moved(where, name, index, by):
        parts = {"theta": theta, "gates": weights}
        bent = parts[where][name].clone()
        bent.view(-1)[index] += by
        at = {**parts, where: {**parts[where], name: bent}}
        return float(objective_by_hand(at["theta"], at["gates"], task, 3, "logits", seen)[0])

    own = {"theta": dict(model.named_parameters()), "gates": dict(gates.named_parameters())}
    for where, params in own.items():
        for name, p in params.items():
            index = p.numel() // 2
            slope = (moved(where, name, index, 1e-5) - moved(where, name, index, -1e-5)) / 2e-5
            torch.testing.assert_close(p.grad.view(-1)[index], torch.tensor(slope), rtol=1e-6, atol=1e-9, msg=name)


def test_the_exact_meta_gradient_passes_through_gradients_and_losses():
    model, gates, batch = net(), lively(), tasks()
    learner = MAML(model, rule=MetaLSTM(gates=gates), steps=2)
    learner(batch).loss.backward()
    for p in (model[0].weight, gates.seen_weight, gates.input_bias):
        ends = []
        for by in (1e-5, -1e-5):
            with torch.no_grad():
                p.view(-1)[0] += by
                ends.append(learner(batch).loss)
                p.view(-1)[0] -= by
        torch.testing.assert_close(p.grad.view(-1)[0], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-9)


@pytest.mark.long
def test_programs_give_the_same_numbers():
    model, gates, batch = MLP(2, (4,), 1, activation="tanh", init_std=None), lively(), tasks(3)
    grads = []
    for route in ("loop", Execution(compile="trace", threads=1)):
        learner = MAML(model, rule=MetaLSTM(gates=gates), steps=2, meta_gradient="first_order", route=route)
        learner.zero_grad()
        learner(batch).loss.backward()
        grads.append([p.grad.clone() for p in learner.parameters()])
    assert {plan.compile for plan in learner.engine.plans.values()} == {"trace"}
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_it_is_told_the_loss_through_other_rules_and_in_the_free_inner_loop():
    params, grads = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 4.0])}
    rule, loss = MetaLSTM(gates=lively()), torch.tensor(0.7)
    want, _ = rule.update(params, {"w": grads["w"] / 5}, rule.init(params), loss)
    got, _ = Clip(rule, 1.0).update(params, grads, rule.init(params), loss)
    torch.testing.assert_close(got, want)
    other, _ = rule.update(params, {"w": grads["w"] / 5}, rule.init(params), 2 * loss)
    assert not torch.allclose(other["w"], want["w"])
    scaled, _ = with_lr(rule, 0.2).update(params, grads, rule.init(params), loss)
    torch.testing.assert_close(scaled, want)
    phi = adapt(lambda p, c: (p["w"] * grads["w"]).sum() + c, params, torch.tensor(5.7), rule, 1)
    stepped, _ = rule.update(params, grads, rule.init(params), phi.losses[0])
    torch.testing.assert_close(dict(phi), stepped)
    with pytest.raises(ConfigError, match=r"MetaLSTM sees the loss of each step; call update"):
        rule.update(params, grads, rule.init(params))


def test_a_complex_number_is_two_and_a_narrow_one_keeps_its_type():
    rule, loss = MetaLSTM(gates=lively()), torch.tensor(0.5)
    z, g = torch.tensor([1 + 2j, -0.5j]), torch.tensor([0.3 - 1j, 2.0 + 0j])
    got, _ = rule.update({"z": z}, {"z": g}, rule.init({"z": z}), loss)
    real = {"z": torch.view_as_real(z)}
    want, _ = rule.update(real, {"z": torch.view_as_real(g)}, rule.init(real), loss)
    torch.testing.assert_close(torch.view_as_real(got["z"]), want["z"])
    narrow = {"a": torch.ones(2, dtype=torch.float16), "b": torch.ones((), dtype=torch.float32)}
    got, state = rule.update(narrow, narrow, rule.init(narrow), loss)
    assert [t.dtype for t in got.values()] == [torch.float16, torch.float32] and got["b"].shape == ()
    assert {t.dtype for t in state.values()} == {torch.float64}


def test_settings_outside_their_range_are_refused():
    for build in (lambda: Gates(0), lambda: Gates(feedback="sigmoids"), lambda: MetaLSTM(-1.0), lambda: MetaLSTM(p=0)):
        with pytest.raises(ConfigError):
            build()
    with pytest.raises(TaskError, match="Reptile's backward"):
        Reptile(net(), rule=MetaLSTM())(tasks())
