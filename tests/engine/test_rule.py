"""The table, the estimates that say whether programs pay, and the verdicts that are kept on disk."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, MSE, SGD, Conv4, CrossEntropy, Execution, Tasks
from fastadapt.cache import cache_folder
from fastadapt.engine import verdicts
from fastadapt.engine.census import Census, Work
from fastadapt.engine.rule import programs_pay, strategy_for


def tasks(size=(3,), count=4, rows=6):
    def batch():
        return torch.randn(count, rows, *size), (torch.arange(rows) % 2).repeat(count, 1)

    return Tasks(batch(), batch())


IMAGES = Conv4(1, 4, 2, size=16)


@pytest.mark.parametrize(
    ("model", "size", "execution", "eager", "faster"),
    [
        (MLP(3, (4,), 2), (3,), {}, "vmapped", "programs"),
        (IMAGES, (1, 16, 16), {}, "vmapped", "threads"),
        (IMAGES, (1, 84, 84), {}, "loop", "threads"),
        (MLP(3, (4,), 2), (3,), {"route": "loop"}, "loop", "threads"),
        (IMAGES, (1, 84, 84), {"route": "vmap"}, "vmapped", "programs"),
        (IMAGES, (1, 16, 16), {"route": "graph"}, "vmapped", "graph"),
        (IMAGES, (1, 16, 16), {"route": "graph", "compile": "on"}, "vmapped", "programs"),
    ],
)
def test_the_table_gives_each_case_its_strategies(model, size, execution, eager, faster):
    row = strategy_for(model, tasks(size), Execution(**execution))
    assert (row.eager, row.faster) == (eager, faster)


def test_operations_and_arithmetic_are_counted_by_hand():
    net, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(7, 3)
    with Census() as census, torch.no_grad():
        net(x)
    assert census.work.arithmetic == 2 * 7 * (3 * 5 + 5 * 2)
    assert census.work.operations == 5  # each layer's transposed weight and product, and one ReLU


def test_programs_pay_for_more_steps_and_more_time_only():
    work = Work(400, 1e6)
    pay = [programs_pay(work, 25, "vmapped", "programs", calls, 1e9) for calls in (10, 1000, 100_000)]
    assert pay == sorted(pay) and pay[0] is False and pay[-1] is True
    assert not programs_pay(work, 25, "vmapped", "programs", 100_000, 30.0)


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """Give the list of comparisons with the loop in float64 that were made, with a cache of its own."""
    monkeypatch.setattr(verdicts, "cache_folder", cache_folder)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    made, real = [], verdicts.disagreement
    monkeypatch.setattr(verdicts, "disagreement", lambda *a: made.append(1) or real(*a))
    return made


def learner(act="relu", rate=0.1):
    return MAML(MLP(3, (4,), 2, activation=act), CrossEntropy(), rule=SGD(rate), steps=2)


def test_a_verdict_serves_the_next_learner_with_the_same_operations(compared):
    for expected, made in ((1, learner()), (1, learner()), (2, learner("tanh")), (3, learner(rate=0.2))):
        made(tasks())
        assert {plan.strategy for plan in made.engine.plans.values()} == {"vmapped"}
        assert len(compared) == expected
    learner()(tasks(rows=8))
    assert len(compared) == 4


def test_a_wrong_result_of_vmap_is_remembered_too(compared, told):
    class Double(torch.autograd.Function):
        factor = 3.0

        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

        @staticmethod
        def vmap(info, in_dims, x):
            return Double.factor * x, in_dims[0]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return Double.apply(self.layer(x))

    def strategies():
        made = MAML(Net(), CrossEntropy(), rule=SGD(0.1), steps=1)
        made(tasks())
        return {plan.strategy for plan in made.engine.plans.values()}

    assert strategies() == {"loop"} and strategies() == {"loop"} and len(compared) == 1
    Double.factor = 2.0  # its code is another one now, which the loop does not show
    assert strategies() == {"vmapped"} and len(compared) == 2


def test_inner_steps_that_multiply_every_rounding_are_no_verdict_on_vmap(compared, tmp_path, told):
    class Chaotic(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return torch.sin(20 * self.layer(x))

    generator = torch.Generator().manual_seed(0)
    points = [tuple(torch.randn(2, 5, n, generator=generator) for n in (3, 1)) for _ in range(2)]
    for expected in (1, 2):
        torch.manual_seed(0)
        made = MAML(Chaotic(), MSE(), rule=SGD(2.0), steps=12, route="vmap")
        made(Tasks(*points))
        assert {plan.strategy for plan in made.engine.plans.values()} == {"loop"} and len(compared) == expected
    assert "one rounding moves the result as far as vmap" in told()[0]
    assert not list((tmp_path / "cache").rglob("*.json"))


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b'{"difference": "x"}', b"\xff"])
def test_a_verdict_that_can_t_be_read_is_found_anew(compared, tmp_path, written):
    learner()(tasks())
    [file] = (tmp_path / "cache" / "verdicts").iterdir()
    file.write_bytes(written)
    assert verdicts.known(file.stem) is None
    learner()(tasks())
    assert len(compared) == 2 and verdicts.known(file.stem) is not None


def test_without_a_place_to_write_each_learner_finds_its_own(compared, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "file"))
    for expected in (1, 2):
        learner()(tasks())
        assert len(compared) == expected
