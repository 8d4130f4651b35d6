"""Outer steps that the device takes by itself, with a stand-in that replays operations and runs no Python."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Sinusoid, Task, Tasks, Training, meta_train
from fastadapt.engine.recorder import Uncapturable
from fastadapt.errors import DivergenceError
from fastadapt.training import captured, train
from fastadapt.training.captured import CapturedStep, capturable, load, saved, set_rate, skips_by_flag
from fastadapt.training.outer_step import Late, outer_step
from replaying import Replaying


def learner(norm="transductive", seed=0):
    torch.manual_seed(seed)
    net = MLP(1, (8,), 2, norm=norm == "running", init_std=None)
    return MAML(net, CrossEntropy(), rule=SGD(0.1), norm=norm, route="loop")


def batch(seed, value=None):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 1, generator=rng)
    if value is not None:
        x[0, 0, 0] = value
    pair = x, (torch.arange(4) % 2).repeat(2, 1)
    return [Tasks(pair, (torch.randn(2, 4, 1, generator=rng), pair[1]))]


def adam(learner, lr=0.1):
    return torch.optim.Adam(learner.parameters(), lr=torch.tensor(lr), fused=True)


def plain_adam(learner, lr=0.1):
    return torch.optim.Adam(learner.parameters(), lr=lr)


def sgd(learner, lr=0.1):
    return torch.optim.SGD(learner.parameters(), lr=torch.tensor(lr), momentum=0.9, fused=True)


def plain_sgd(learner, lr=0.1):
    return torch.optim.SGD(learner.parameters(), lr=lr, momentum=0.9)


def recording():
    recorders = []

    def make(device):
        recorders.append(Replaying(device))
        return recorders[-1]

    return CapturedStep(make), recorders


CLIPPED = [Training(clip_norm=0.05), Training(clip_value=0.01)]
CASES = [
    (adam, plain_adam, "running", Training()),
    (sgd, plain_sgd, "transductive", Training()),
    (sgd, plain_sgd, "running", CLIPPED[0]),
]
MORE = [
    (*kinds, norm, training)
    for kinds in ((adam, plain_adam), (sgd, plain_sgd))
    for norm in ("transductive", "running")
    for training in CLIPPED
]


@pytest.mark.parametrize(
    "build, plain, norm, training", [*CASES, *(pytest.param(*more, marks=pytest.mark.slow) for more in MORE)]
)
def test_steps_are_those_of_the_eager_optimizer(build, plain, norm, training):
    # in float64: the gradient of a bias before a norm is rounding alone, which Adam makes whole steps of
    mine, other = learner(norm).double(), learner(norm).double()
    optimizers = build(mine), plain(other)
    step, recorders = recording()
    for i, value in enumerate([None, None, None, float("nan"), None, float("inf"), None]):
        for optimizer in optimizers:  # a schedule
            set_rate(optimizer.param_groups[0], 0.1 / (1 + i))
        was = {name: v.clone() for name, v in mine.state_dict().items()}
        got = step(mine, [tasks.to(torch.float64) for tasks in batch(i, value)], optimizers[0], training)
        want = outer_step(other, [tasks.to(torch.float64) for tasks in batch(i, value)], optimizers[1], training)
        assert isinstance(got.moved, Late)
        assert bool(got.moved) is want.moved is (value is None)
        torch.testing.assert_close(got.gradient, want.gradient, rtol=1e-4, atol=1e-6, equal_nan=True)
        for name, v in mine.state_dict().items():
            torch.testing.assert_close(v, other.state_dict()[name], rtol=1e-4, atol=1e-6)
            assert value is None or torch.equal(v, was[name])
    asked = [word for word in recorders[0].log if word != "warm"]
    assert asked == ["record", "replay", "record", *["replay"] * 4]  # the update, then the whole step
    assert not hasattr(optimizers[0], "found_inf")


def test_a_verdict_stays_what_it_was_when_further_steps_are_taken():
    mine = learner()
    step, _ = recording()
    optimizer = adam(mine)
    taken = [step(mine, batch(i, float("nan") if i in (3, 4) else None), optimizer, Training()) for i in range(7)]
    assert [bool(t.moved) for t in taken] == [True, True, True, False, False, True, True]
    assert len({float(t.gradient) for t in taken if t.moved}) == 5


def test_what_is_set_otherwise_is_recorded_anew():
    mine = learner()
    step, recorders = recording()
    optimizer = adam(mine)

    def take(count):
        for i in range(count):
            assert step(mine, batch(i), optimizer, Training()).moved

    take(4)
    assert recorders[0].log.count("record") == 2
    optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    other = learner()
    plain = plain_adam(other)
    load(plain, copy.deepcopy(saved(optimizer)))
    other.load_state_dict(mine.state_dict())
    take(3)
    assert recorders[0].log.count("record") == 4
    for i in range(3):
        outer_step(other, batch(i), plain, Training())
    for name, v in mine.state_dict().items():
        torch.testing.assert_close(v, other.state_dict()[name], rtol=1e-4, atol=1e-6)
    next(mine.parameters()).requires_grad_(False)
    take(3)
    assert recorders[0].log.count("record") == 6


def test_what_can_not_be_recorded_steps_by_single_calls(told):
    class Refusing(Replaying):
        def record(self, function):
            raise Uncapturable("it can't be recorded on the GPU: not today")

    mine, other = learner(), learner()
    step = CapturedStep(Refusing)
    optimizer, plain = adam(mine), plain_adam(other)
    for i in range(4):
        assert bool(step(mine, batch(i), optimizer, Training()).moved)
        outer_step(other, batch(i), plain, Training())
    assert "the outer optimizer steps by single calls, because it can't be recorded on the GPU: not today" in told()
    for name, v in mine.state_dict().items():
        torch.testing.assert_close(v, other.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_only_optimizers_that_skip_by_a_flag_are_captured():
    params = [nn.Parameter(torch.zeros(2))]
    rate = torch.tensor(0.1)
    assert skips_by_flag(torch.optim.SGD(params, lr=rate, fused=True))
    assert not skips_by_flag(torch.optim.SGD(params, lr=0.1, fused=True))  # its rate would be frozen
    assert not skips_by_flag(torch.optim.Adam(params, lr=rate))
    assert not skips_by_flag(torch.optim.Adam(params, lr=rate, fused=True))  # its health check asks for `capturable`
    assert not skips_by_flag(torch.optim.RMSprop(params, lr=0.1))
    hooked = torch.optim.SGD(params, lr=rate, fused=True)
    hooked.register_step_pre_hook(lambda *_: None)
    assert not skips_by_flag(hooked)
    assert not capturable(torch.optim.SGD(params, lr=rate, fused=True))  # not on a GPU
    assert captured.captured_where_it_can_be(outer_step, torch.optim.Adam(params)) is outer_step


def test_a_state_is_loaded_on_another_kind_of_device_and_steps_there():
    fused, plain = learner(), learner()
    optimizers = adam(fused), plain_adam(plain, 0.3)
    for i in range(2):
        outer_step(fused, batch(i), optimizers[0], Training())
    state = saved(optimizers[0])
    assert state["param_groups"][0]["lr"] == pytest.approx(0.1)
    assert isinstance(state["param_groups"][0]["lr"], float)
    load(optimizers[1], copy.deepcopy(state))
    plain.load_state_dict(fused.state_dict())
    assert not optimizers[1].param_groups[0]["fused"]
    rate = optimizers[0].param_groups[0]["lr"]
    load(optimizers[0], copy.deepcopy(saved(optimizers[1])))
    assert optimizers[0].param_groups[0]["lr"] is rate
    for i in range(2, 4):
        outer_step(fused, batch(i), optimizers[0], Training())
        outer_step(plain, batch(i), optimizers[1], Training())
    for name, v in fused.state_dict().items():
        torch.testing.assert_close(v, plain.state_dict()[name], rtol=1e-5, atol=1e-7)


SETTINGS = Training(steps=12, meta_batch=2, checkpoint_every=5, log_every=4)


def poisoned(bad):
    """Return a source whose tasks of the steps `bad` hold a value that is not finite."""
    tasks = [n for step in bad for n in range(2 * step, 2 * step + 2)]
    known = [float(Sinusoid().sample(captured_rng(n)).support[0][0]) for n in tasks]

    def sample(rng: np.random.Generator) -> Task:
        task = Sinusoid().sample(rng)
        if float(task.support[0][0]) in known:
            task.support[1][0] = float("nan")
        return task

    return sample


def captured_rng(number):
    from fastadapt.batches.streams import task_rng

    return task_rng(0, "train", number)


def trained(monkeypatch, late, source, settings, folder=None):
    """Train with steps that are judged late, or at once."""
    torch.manual_seed(0)
    mine = MAML(MLP(1, (8,), 1, init_std=None), rule=SGD(0.01), route="loop")
    if late:
        monkeypatch.setattr(train, "captured_where_it_can_be", lambda step, optimizer: CapturedStep(Replaying))
    optimizer = adam(mine, settings.lr)
    try:
        result = meta_train(mine, source, settings, optimizer=optimizer, folder=folder, quiet=True)
    except DivergenceError as error:
        result = str(error)
    monkeypatch.undo()
    return result, mine.state_dict()


@pytest.mark.parametrize("bad", [[0], [11], [3, 4, 6]])
def test_a_training_skips_and_counts_as_one_that_waits(monkeypatch, tmp_path, bad):
    found = [trained(monkeypatch, late, poisoned(bad), SETTINGS, tmp_path / str(late)) for late in (False, True)]
    (want, weights), (got, others) = found
    assert got.skipped == want.skipped == len(bad)
    keys = ("step", "skipped", "not finite", "lr")
    kept = [[{k: r[k] for k in keys if k in r} for r in result.records] for result in (want, got)]
    assert kept[0] == kept[1]
    for name, v in weights.items():
        torch.testing.assert_close(others[name], v, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("most, bad", [(1, [4]), (2, [4, 5]), (3, [2, 3, 5, 6, 7])])
def test_a_training_stops_at_the_same_step_as_one_that_waits(monkeypatch, tmp_path, most, bad):
    settings = replace(SETTINGS, max_nonfinite=most)
    found = [trained(monkeypatch, late, poisoned(bad), settings, tmp_path / str(late)) for late in (False, True)]
    assert found[0][0] == found[1][0]
    assert f"for {most} steps in a row" in found[1][0]
    folders = [sorted(p.name for p in (tmp_path / str(late) / "checkpoints").iterdir()) for late in (False, True)]
    assert folders[0] == folders[1]


def test_a_run_in_two_lives_equals_one_in_one(monkeypatch, tmp_path):
    settings = replace(SETTINGS, schedule="linear")
    _, whole = trained(monkeypatch, True, Sinusoid(), settings, tmp_path / "whole")

    class Stop(Exception):
        pass

    calls = []

    def interrupted(rng):
        calls.append(rng)
        if len(calls) > 14:
            raise Stop
        return Sinusoid().sample(rng)

    with pytest.raises(Stop):
        trained(monkeypatch, True, interrupted, settings, tmp_path / "cut")
    _, second = trained(monkeypatch, True, Sinusoid(), settings, tmp_path / "cut")
    assert all(torch.equal(v, second[name]) for name, v in whole.items())
