"""What a program has frozen is watched: every result equals that of the plain loop, before and after a change."""

import functools
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Execution, Reptile
from fastadapt.engine.guards import Guards
from reference import difference
from watched import Net, mse, result, tasks

ROUTES = ("loop", "vmap")
BETA = 1.0


# ---- state that changes between calls: (loss, change) -----------------------------------------------


def closure_list():
    beta = [1.0]
    return lambda m, b: beta[0] * mse(m, b), lambda: beta.__setitem__(0, 0.1)


def closure_number():
    beta = 1.0

    def loss(m, b):
        return beta * mse(m, b)

    def change():
        nonlocal beta
        beta = 0.1

    return loss, change


def global_number():
    return lambda m, b: BETA * mse(m, b), lambda: globals().__setitem__("BETA", BETA / 2)


CONFIG = SimpleNamespace(beta=1.0, deep=SimpleNamespace(gamma=[1.0]))


def config_attribute():
    return lambda m, b: CONFIG.beta * mse(m, b), lambda: setattr(CONFIG, "beta", CONFIG.beta / 2)


def deep_config():
    return lambda m, b: CONFIG.deep.gamma[0] * mse(m, b), lambda: setattr(
        CONFIG.deep, "gamma", [CONFIG.deep.gamma[0] / 2]
    )


def looked_up_attribute():
    return lambda m, b: vars(CONFIG)["beta"] * mse(m, b), lambda: setattr(CONFIG, "beta", CONFIG.beta / 2)


@dataclass(frozen=True)
class Scaled:
    beta: float = 1.0

    def __call__(self, m, b):
        return self.beta * mse(m, b)


def dataclass_field():
    loss = Scaled()
    return loss, lambda: object.__setattr__(loss, "beta", 0.1)


def numpy_scalar():
    held = {"beta": np.float64(1.0)}
    return lambda m, b: held["beta"] * mse(m, b), lambda: held.update(beta=np.float64(0.1))


def numpy_array():
    beta = np.ones(2)
    return lambda m, b: float(beta[1]) * mse(m, b), lambda: beta.fill(0.1)


def nested_functions():
    beta = {"now": 1.0}

    def weight():
        return beta["now"]

    return lambda m, b: (lambda: weight() * mse(m, b))(), lambda: beta.update(now=0.1)


def keyword_default():
    def loss(m, b, *, beta=[1.0]):  # noqa: B006
        return beta[0] * mse(m, b)

    return loss, lambda: setattr(loss, "__kwdefaults__", {"beta": [0.1]})


def partial():
    beta = [1.0]
    return functools.partial(lambda beta, m, b: beta[0] * mse(m, b), beta), lambda: beta.__setitem__(0, 0.1)


class Schedule:
    rate = 0.5

    def __init__(self):
        self.step = 0

    @property
    def weight(self):
        return self.rate**self.step

    def loss(self, m, b):
        return self.weight * mse(m, b)


def method_and_schedule():
    schedule = Schedule()
    return schedule.loss, lambda: setattr(schedule, "step", schedule.step + 1)


def class_attribute():
    class Mine(Schedule):
        rate = 1.0

        def __init__(self):
            self.step = 1

    return Mine().loss, lambda: setattr(Mine, "rate", 0.1)


def hidden_class_attribute():
    schedule = Schedule()
    schedule.step = 1
    return schedule.loss, lambda: setattr(schedule, "rate", 0.1)


class Slotted:
    __slots__ = ("beta",)


def slots():
    held = Slotted()
    held.beta = 1.0
    return lambda m, b: held.beta * mse(m, b), lambda: setattr(held, "beta", 0.1)


def queue():
    held = deque([1.0])
    return lambda m, b: sum(held) * mse(m, b), lambda: held.append(0.1)


def members():
    held = {1.0}
    return lambda m, b: sum(held) * mse(m, b), lambda: held.add(2.0)


def tensor_in_place():
    beta = torch.ones(1)
    return lambda m, b: float(beta) * mse(m, b), lambda: beta.fill_(0.1)


def tensor_data():
    beta = torch.ones(1)
    return lambda m, b: float(beta) * mse(m, b), lambda: beta.data.fill_(0.1)


def tensor_replaced():
    held = [torch.ones(100)]
    return lambda m, b: held[0].mean() * mse(m, b), lambda: held.__setitem__(0, torch.full((100,), 0.1))


def other_function():
    held = SimpleNamespace(loss=mse)
    return lambda m, b: 1.0 * held.loss(m, b), lambda: setattr(held, "loss", lambda m, b: 3 * mse(m, b))


def other_code():
    def loss(m, b):
        return mse(m, b)

    return loss, lambda: setattr(loss, "__code__", (lambda m, b: 3 * mse(m, b)).__code__)


def default_precision():
    def change():
        torch.set_default_dtype(torch.float32)

    return lambda m, b: torch.tensor(1 / 3) * torch.ones(2).sum() * mse(m, b), change


LOSSES = [
    *(closure_list, closure_number, global_number, config_attribute, deep_config, looked_up_attribute),
    *(dataclass_field, numpy_scalar, numpy_array, nested_functions, keyword_default, partial, method_and_schedule),
    *(class_attribute, hidden_class_attribute, slots, queue, members, tensor_in_place, tensor_data, tensor_replaced),
    *(other_function, other_code, default_precision),
]


@pytest.mark.parametrize(
    ("case", "route"),  # by default each with one route, in turn
    [
        pytest.param(case, route, id=f"{case.__name__}-{route}", marks=[pytest.mark.long] * ((i + j) % len(ROUTES) > 0))
        for i, case in enumerate(LOSSES)
        for j, route in enumerate(ROUTES)
    ],
)
def test_state_that_a_loss_reads_is_never_frozen(case, route, double, built):
    loss, change = case()
    net = nn.Linear(3, 2)
    compiled = MAML(net, loss, rule=SGD(0.1), route=Execution(route=route, compile="trace"))
    plain = MAML(net, loss, rule=SGD(0.1), route=Execution(route="loop", compile="off"))
    for _ in range(2):
        first = result(plain, tasks())
        assert difference(result(compiled, tasks()), first) < 1e-12
    assert built and {plan.compile for plan in compiled.engine.plans.values()} == {"trace"}
    change()
    for seed in range(4):  # long enough for programs of the new state
        want = result(plain, tasks(seed))
        assert difference(result(compiled, tasks(seed)), want) < 1e-12
        assert seed > 0 or difference(want, first) > 1e-9


MODULE_CHANGES = {
    "attribute": lambda net: setattr(net, "beta", net.beta / 2),
    "list": lambda net: net.parts.__setitem__(0, net.parts[0] / 2),
    "training": lambda net: net.train(not net.training),
    "hook": lambda net: net.layer.register_forward_hook(lambda module, args, out: 2 * out),
    "method": lambda net: setattr(net, "forward", lambda x: 3 * net.layer(x)),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", MODULE_CHANGES)
def test_state_that_a_module_reads_is_never_frozen(name, route, double):
    net = Net()
    compiled = MAML(net, mse, rule=SGD(0.1), route=Execution(route=route, compile="trace"))
    plain = MAML(net, mse, rule=SGD(0.1), route="loop")
    for _ in range(2):
        assert difference(result(compiled, tasks()), first := result(plain, tasks())) < 1e-12
    MODULE_CHANGES[name](net)
    for _ in range(4):
        want = result(plain, tasks())
        assert difference(result(compiled, tasks()), want) < 1e-12
        assert difference(want, first) > 1e-6


@dataclass(frozen=True)
class Halving:
    lr: float = 0.1
    power: float = 1.0

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return {n: params[n] - self.lr * self.power * grads[n] for n in params}, state


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", (MAML, Reptile))
def test_state_that_a_rule_reads_is_never_frozen(kind, route, double):
    net, rule = nn.Linear(3, 2), Halving()
    compiled = kind(net, mse, rule=rule, route=Execution(route=route, compile="trace"))
    plain = kind(net, mse, rule=rule, route="loop")
    for power in (1.0, 1.0, 0.5, 0.5, 0.5):
        object.__setattr__(rule, "power", power)
        assert difference(result(compiled, tasks()), result(plain, tasks())) < 1e-12
    for learner in (compiled, plain):
        learner.rule = SGD(0.3)
    assert difference(result(compiled, tasks()), result(plain, tasks())) < 1e-12


def test_guards_say_what_changed():
    held = {"a": [1, (2, 3)], "b": {4}}

    def read():
        return held

    before = Guards(read)
    assert before.hold() and Guards(read).changed(before) is None
    held["a"][1] = (2, 4)
    assert not before.hold()
    assert "held['a'][1] changed" in Guards(read).changed(before)


def test_a_global_that_hides_a_builtin_is_seen(monkeypatch):
    guards = Guards(lambda values: 2 * sum(values))
    assert guards.hold()
    monkeypatch.setitem(globals(), "unrelated", 1)
    assert guards.hold()
    monkeypatch.setitem(globals(), "sum", max)
    assert not guards.hold()
