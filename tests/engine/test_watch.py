"""Which programs are used in which state of Python, and what is run task by task instead."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, Execution, Momentum, Reptile, adapt
from fastadapt.engine.guards import Guards
from fastadapt.rules.rates import learned_rates
from reference import difference
from watched import Net, mse, result, tasks

# ---- state that running changes ---------------------------------------------------------------------


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, m, b):
        self.calls += 1
        return mse(m, b) / self.calls


class CountingNet(Net):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) / self.calls


class LayerDrop(Net):
    def forward(self, x):
        return self.layer(x) if random.random() < 0.5 else 0.5 * self.layer(2 * x)


class Numpy(Net):
    def forward(self, x):
        return self.layer(x) * float(np.random.rand())


def counted():
    return Counting()


def appended():
    seen = []
    return lambda m, b: mse(m, b) / (len(seen.append(1) or seen))


def iterated():
    count = itertools.count(1)
    return lambda m, b: mse(m, b) / next(count)


def drawn():
    return lambda m, b: random.random() * mse(m, b)


def drawn_by_name():
    from random import gauss

    return lambda m, b: gauss(0, 1) * mse(m, b)


def drawn_by_numpy():
    return lambda m, b: float(np.random.rand()) * mse(m, b)


def drawn_by_a_generator():
    rng = np.random.default_rng(0)
    return lambda m, b: float(rng.random()) * mse(m, b)


IMPURE = [counted, appended, iterated, drawn, drawn_by_name, drawn_by_numpy, drawn_by_a_generator]


@pytest.mark.parametrize("how", [Execution("loop", "trace"), Execution("vmap", "trace"), Execution("vmap")])
@pytest.mark.parametrize("case", [*IMPURE, CountingNet, LayerDrop, Numpy], ids=lambda f: f.__name__)
def test_what_running_changes_is_run_task_by_task_and_never_frozen(case, how, double, told):
    results, weights = [], nn.Linear(3, 2).state_dict()
    for route in (how, Execution("loop", "off")):
        net, loss = (case(), mse) if isinstance(case, type) else (Net(), case())
        net.layer.load_state_dict(weights)
        learner = MAML(net, loss, rule=SGD(0.1), steps=2, route=route)
        random.seed(3)
        np.random.seed(3)
        results.append([result(learner, tasks(seed)) for seed in range(3)])
        assert {(p.route, p.compile) for p in learner.engine.plans.values()} == {("loop", "off")}
    assert all(difference(got, want) < 1e-12 for got, want in zip(*results, strict=True))
    assert len(told()) >= 1


# ---- programs are used where nothing changes --------------------------------------------------------


def test_programs_are_made_once_where_nothing_changes(built, double):
    beta = [1.0]
    learner = MAML(Net(), lambda m, b: beta[0] * mse(m, b), route=Execution("vmap", "trace"))
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    for seed in range(6):
        result(learner, tasks(seed))
        optimizer.step()
        beta[0] = float("1.0")  # another object of the same value
    assert len(built) == 1


@pytest.mark.parametrize("norm", ["transductive", "running", "per_step"])
@pytest.mark.parametrize("kind", [MAML, Reptile])
def test_what_a_training_changes_is_no_other_state(kind, norm, double):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    rule = SGD(learned_rates(net, 0.1)) if kind is MAML else Momentum(0.1)
    own = {} if kind is MAML else {"inner_state": "mean"}
    learner = kind(net, mse, rule=rule, norm=norm, route=Execution("loop", "trace"), **own)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.1)
    for _ in range(3):
        result(learner, tasks())
        optimizer.step()
    [watch] = learner.engine._watches.values()
    assert (watch.number, watch.refused, len(watch._passing)) == (0, None, 0)


def test_states_that_come_again_find_their_programs(built, double):
    beta = [1.0]
    net, loss = Net(), lambda m, b: beta[0] * mse(m, b)
    learner, plain = MAML(net, loss, route=Execution("vmap", "trace")), MAML(net, loss, route="loop")
    for _ in range(10):
        for beta[0] in (1.0, 0.5):
            assert difference(result(learner, tasks()), result(plain, tasks())) < 1e-12
    assert len(built) == 2


def test_a_schedule_that_moves_at_every_step_is_not_compiled_anew_and_one_line_says_why(built, told, double):
    beta = [1.0]
    net, loss = Net(), lambda m, b: beta[0] * mse(m, b)
    learner, plain = MAML(net, loss, route=Execution("vmap", "trace")), MAML(net, loss, route="loop")
    for step in range(20):
        beta[0] = 1 / (1 + step)
        assert difference(result(learner, tasks()), result(plain, tasks())) < 1e-12
    assert len(built) == 1
    [line] = [line for line in told() if "old value" in line]
    assert ": loss: closure variable beta[0] changed from 1.0 to 0.5" in line


def test_lasting_states_have_programs_up_to_a_number_of_them(built, double):
    beta = [1.0]
    net, loss = Net(), lambda m, b: beta[0] * mse(m, b)
    learner, plain = MAML(net, loss, route=Execution("vmap", "trace")), MAML(net, loss, route="loop")
    for beta[0] in (1.0, 0.5, 0.25, 0.125, 0.06):
        for _ in range(3):
            assert difference(result(learner, tasks()), result(plain, tasks())) < 1e-12
    assert len(built) == 4


def test_a_mask_that_is_kept_after_the_first_call_is_no_counter(double):
    class Caching(Net):
        mask = None

        def forward(self, x):
            if self.mask is None:
                self.mask = torch.ones(2)
            return self.layer(x) * self.mask

    learner = MAML(Caching(), mse, route=Execution("vmap", "trace"))
    result(learner, tasks())
    assert {plan.compile for plan in learner.engine.plans.values()} == {"trace"}


@pytest.mark.parametrize("held, word", [(np.ones(100_000), "numpy array"), ([0.0] * 20_000, "too many")])
def test_what_is_too_large_to_watch_is_not_compiled(held, word, told, double):
    learner = MAML(Net(), lambda m, b: held[0] * mse(m, b), route=Execution("vmap", "trace"))
    result(learner, tasks())
    assert {plan.compile for plan in learner.engine.plans.values()} == {"off"}
    assert any(word in line for line in told())


def test_guards_put_back_what_a_run_has_changed():
    counter, seen = Counting(), [1]
    guards = Guards(lambda: (counter.calls, seen))
    counter.calls, counter.new = 5, 1
    seen.append(2)
    guards.restore()
    assert vars(counter) == {"calls": 0} and seen == [1] and guards.hold()


class Prickly:
    """Raise whatever is asked."""

    def __getattribute__(self, name):
        if name == "weight":
            return 1.0
        raise ZeroDivisionError(name)


def test_what_does_not_let_itself_be_looked_at_runs_without_programs(told, double):
    held = Prickly()
    learner = MAML(Net(), lambda m, b: held.weight * mse(m, b), route=Execution("vmap", "trace"))
    plain = MAML(learner.model, lambda m, b: held.weight * mse(m, b), route="loop")
    assert difference(result(learner, tasks()), result(plain, tasks())) < 1e-12
    assert {plan.compile for plan in learner.engine.plans.values()} == {"off"}
    assert any("is not compiled" in line for line in told())


def test_hooks_on_all_modules_are_noticed_but_not_those_of_a_graph_that_is_kept():
    guards = Guards(lambda m, batch: m(batch))
    net, x = nn.Linear(3, 2), torch.randn(4, 3)
    kept = adapt(lambda m, batch: checkpoint(m, batch, use_reentrant=False).square().mean(), net, x, SGD(0.1), steps=1)
    assert torch_module._global_forward_hooks and guards.hold()
    hook = torch_module.register_module_forward_hook(lambda *_: None)
    try:
        assert not guards.hold()
    finally:
        hook.remove()
    assert guards.hold()
    del kept
