"""Tensors of rules and losses, taken out by name and put into a copy."""

import copy
import functools
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastadapt import SGD, Adam, Clip, Momentum
from fastadapt.rules.held import held_tensors, with_held
from fastadapt.rules.rules import rule_name, rule_tensors, with_tensors

PARAMS = {"w": torch.ones(3), "b": torch.zeros(2)}
GRADS = {"w": torch.arange(3.0) - 1, "b": torch.tensor([0.5, 2.0])}


@dataclass(frozen=True)
class Preconditioned:
    """A rule with a network inside, as a learned optimizer is."""

    net: nn.Module
    lr: Any = 0.1

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return {n: params[n] - self.lr * self.net(grads[n].unsqueeze(1)).squeeze(1) for n in params}, state


class Recurrent(nn.Module):
    """A network whose layers keep lists of their parameters beside their own books."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(1, 4), nn.Linear(4, 1)
        self.again = self.out  # one module under two names
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, g):
        return self.scale * (self.out(self.rnn(g)[0]) + self.again(self.rnn(g)[0]))


class Plain:
    """A rule that is no dataclass."""

    def __init__(self):
        self.lr, self.table, self.name = torch.tensor(0.1), [torch.tensor(1.0), (torch.tensor(2.0), 3)], "plain"
        self.friend = self

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return {n: params[n] - self.lr * self.table[0] * self.table[1][0] * grads[n] for n in params}, state


@dataclass(frozen=True, slots=True)
class Slotted:
    lr: Any = 0.1

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return {n: params[n] - self.lr * grads[n] for n in params}, state


def tensors():
    return st.floats(0.05, 0.9).map(torch.tensor)


def numbers():
    return st.floats(0.05, 0.9) | tensors()


def rates():
    return numbers() | st.fixed_dictionaries({"w": tensors(), "b": tensors()})


def networks():
    built = [lambda: nn.Linear(1, 1), Recurrent, lambda: nn.utils.parametrizations.weight_norm(nn.Linear(1, 1))]
    return st.sampled_from(built).map(lambda build: build())


RULES = st.recursive(
    st.builds(SGD, rates())
    | st.builds(Momentum, rates(), numbers(), st.booleans())
    | st.builds(Adam, rates(), numbers(), numbers(), numbers())
    | st.builds(Preconditioned, networks(), rates().filter(lambda lr: not isinstance(lr, dict)))
    | st.builds(Plain)
    | st.builds(Slotted, numbers()),
    lambda inner: st.builds(Clip, inner, numbers()),
    max_leaves=3,
)


def moved(rule):
    params, state = rule.update(PARAMS, GRADS, rule.init(PARAMS))
    return rule.update(params, GRADS, state)[0]


@settings(max_examples=60, deadline=None)
@given(RULES)
def test_tensors_that_are_taken_out_and_put_back_change_nothing(rule):
    before = held_tensors(rule)
    values = {name: t.detach().clone() for name, t in before.items()}
    for own in (dict(before), {name: t.clone() for name, t in before.items()}):
        twin = with_held(rule, own)
        assert type(twin) is type(rule)
        back = held_tensors(twin)
        assert list(back) == list(before) and all(back[name] is own[name] for name in own)
        for ours, theirs in zip(moved(twin).values(), moved(rule).values(), strict=True):
            assert torch.equal(ours, theirs)
    after = held_tensors(rule)
    assert all(after[name] is before[name] and torch.equal(after[name], values[name]) for name in before)


@settings(max_examples=40, deadline=None)
@given(RULES)
def test_other_tensors_count_and_have_gradients(rule):
    own = {name: (1.1 * t.detach()).requires_grad_() for name, t in rule_tensors(rule).items()}
    twin = with_tensors(rule, own)
    by_hand = copy.deepcopy(rule)  # the same values, written into a copy in place
    with torch.no_grad():
        for name, t in rule_tensors(by_hand).items():
            t.copy_(own[name])
    for ours, theirs in zip(moved(twin).values(), moved(by_hand).values(), strict=True):
        torch.testing.assert_close(ours, theirs.detach())
    if own:
        grads = torch.autograd.grad(sum(p.sum() for p in moved(twin).values()), list(own.values()), allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads)
        assert any(g is not None for g in grads)


def test_names_say_where_a_tensor_is():
    rule = Clip(Preconditioned(nn.Linear(1, 1), {"w": torch.ones(())}), torch.tensor(2.0))
    assert list(rule_tensors(rule)) == ["rule.net.weight", "rule.net.bias", "rule.lr.w", "max_norm"]
    shared = torch.ones(())
    assert list(held_tensors(Adam(shared, shared))) == ["lr"]
    twin = with_held(Adam(shared, shared), {"lr": shared + 1})
    assert twin.lr == twin.beta1 == 2


def test_a_rule_without_tensors_is_the_same_object():
    rule = Clip(Adam(0.1))
    assert rule_tensors(rule) == {} and with_tensors(rule, {}) is rule
    module = Recurrent()
    assert with_held(module, held_tensors(module)) is module


def test_a_module_is_run_with_others_parameters_and_keeps_its_own():
    module = Recurrent()
    own = list(module.parameters())
    twin = with_held(module, {name: torch.zeros_like(t) for name, t in held_tensors(module).items()})
    g = torch.randn(5, 1)
    assert torch.equal(twin(g), torch.zeros(5, 1)) and module(g).abs().max() > 0
    assert twin.again is twin.out and twin.scale is module.scale
    assert all(a is b and isinstance(a, nn.Parameter) for a, b in zip(module.parameters(), own, strict=True))


def test_the_tensors_of_a_loss_are_found_where_it_is_a_module_a_method_or_a_partial():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(2.0))
            self.loose = torch.tensor(1.0)

        def forward(self, model, batch):
            return self.w * self.loose * model(batch).sum()

        def other(self, model, batch):
            return -self.w * model(batch).sum()

    def scaled(scale, model, batch):
        return scale * model(batch).sum()

    net, x = nn.Identity(), torch.ones(3)
    loss = Weighted()
    cases = [(loss, "w", 15), (loss.other, "w", -15), (functools.partial(scaled, torch.tensor(2.0)), "0", 15)]
    for holder, name, want in cases:
        assert name in held_tensors(holder)
        assert with_held(holder, {name: torch.tensor(5.0)})(net, x) == want
    assert with_held(loss, {"loose": torch.tensor(5.0)})(net, x) == 30
    assert loss(net, x) == 6


def test_a_rules_name_does_not_change_while_it_learns():
    lr, net = {"w": nn.Parameter(torch.ones(2))}, nn.Linear(1, 1)
    rule = Clip(Momentum(lr, nn.Parameter(torch.tensor(0.5))))
    name = rule_name(rule)
    assert name == "Clip(rule=Momentum(lr=learned, momentum=learned, nesterov=False), max_norm=10.0)"
    with torch.no_grad():
        lr["w"].add_(1)
        before = rule_name(Preconditioned(net, 0.1))
        net.weight.add_(1)
    assert rule_name(rule) == name and rule_name(Preconditioned(net, 0.1)) == before
    assert rule_name(SGD(0.1)) == repr(SGD(0.1)) and rule_name(SGD(0.1)) != rule_name(SGD(0.2))


def test_copies_under_vmap_are_those_of_each_task():
    values = torch.rand(4)
    rule = Momentum(torch.tensor(0.1), torch.tensor(0.5))

    def one(momentum: Tensor) -> Tensor:
        return moved(with_tensors(rule, {"momentum": momentum}))["w"]

    many = torch.func.vmap(one)(values)
    torch.testing.assert_close(many, torch.stack([moved(Momentum(0.1, float(v)))["w"] for v in values]))


@pytest.mark.parametrize("build", [Slotted, Plain, lambda: SGD(0.1)])
def test_fields_stay_what_they_were(build):
    rule = build()
    names = [f.name for f in fields(rule)] if not isinstance(rule, Plain) else list(vars(rule))
    twin = with_held(rule, {name: t + 1 for name, t in held_tensors(rule).items()})
    assert all(hasattr(twin, name) for name in names)
