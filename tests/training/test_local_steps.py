"""Outer steps that processes take apart: local SGD, held to a computation written out by hand in one process.

python test_local_steps.py RANK WORLD FOLDER      is one of the processes
"""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import fastadapt as fa
from fastadapt.methods import FOML, ProtoNet
from fastadapt.training.local_steps import check_sound

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
RATE, INNER, TASKS, LOCAL = 0.3, 0.1, 5, 3


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


class Waves:
    """Draw regressions in float64; that of a task whose number is told has a value that is not finite."""

    def __init__(self, broken=()):
        self.broken, self.drawn = broken, 0

    def sample(self, rng):
        def batch(n):
            return torch.as_tensor(rng.normal(size=(n, 3))), torch.as_tensor(rng.normal(size=(n, 2)))

        task = fa.Task(batch(4), batch(6))
        mark = float(task.support[0][0, 0])
        if any(math.isclose(mark, broken, rel_tol=1e-9) for broken in self.broken):
            task.support[1][0, 0] = math.nan
        return task


LEARNERS = {
    "reptile": lambda: fa.Reptile(net(), rule=fa.SGD(INNER), steps=3, route="loop"),
    "foml": lambda: FOML(net(), rule=fa.SGD(INNER), steps=3, route="loop"),
    "first order": lambda: fa.MAML(net(), rule=fa.SGD(INNER), steps=3, meta_gradient="first_order", route="loop"),
}


def tasks_of(step):
    return fa.draw(Waves(), seed=0, split="train", indices=range(TASKS * step, TASKS * (step + 1)))


BROKEN = float(tasks_of(1)[1].support[0][0, 0]) if dist.is_available() else 0.0
"""The first number of task 6, which the second process has in the second step."""


def settings(steps=6, **more):
    base = {"meta_batch": TASKS, "optimizer": "sgd", "lr": RATE, "log_every": 3, "checkpoint_every": 3}
    return fa.Training(steps=steps, local_steps=LOCAL, **{**base, **more})


# ---- by hand -----------------------------------------------------------------------------------


def loss(w, batch):
    x, y = batch
    return ((torch.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3] - y) ** 2).mean()


def slope(w, batch):
    w = [t.clone().requires_grad_() for t in w]
    return torch.autograd.grad(loss(w, batch), w)


def direction(case, w, task):
    """Return what is subtracted from the weights for one task."""
    path = [w]
    for _ in range(3):
        path.append([t - INNER * g for t, g in zip(path[-1], slope(path[-1], task.support), strict=True)])
    if case == "first order":
        return slope(path[-1], task.query)
    start = path[0] if case == "reptile" else path[-2]
    return [a - b for a, b in zip(start, path[-1], strict=True)]


def by_hand(case, world, steps=6, left_out=()):
    """Return the weights after rounds of three local steps; `left_out` are pairs of a step and a process."""
    weights = [p.detach().clone() for p in net().parameters()]
    for first in range(0, steps, LOCAL):
        ends = []
        for rank in range(world):
            own, count = weights, 0
            for step in range(first, first + LOCAL):
                share = tasks_of(step)[rank::world]
                count = len(share)
                if (step, rank) in left_out:
                    continue
                each = [direction(case, own, task) for task in share]
                own = [t - RATE * sum(d[i] for d in each) / count for i, t in enumerate(own)]
            ends.append((count / TASKS, own))
        weights = [sum(part * own[i] for part, own in ends) for i in range(4)]
    return weights


# ---- two processes -----------------------------------------------------------------------------


def trained(case, training, folder=None, broken=()):
    learner = LEARNERS[case]()
    done = fa.meta_train(learner, Waves(broken), training, folder=folder, quiet=True)
    return [p.detach() for p in learner.parameters()], done.skipped


def process(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    found = {case: trained(case, settings()) for case in LEARNERS}
    found["broken"] = trained("reptile", settings(), broken=(BROKEN,))
    trained("reptile", settings(3), folder / "resumed")
    found["resumed"] = trained("reptile", settings(6), folder / "resumed")
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    running = [subprocess.Popen([sys.executable, __file__, str(rank), "2", str(folder)]) for rank in (0, 1)]
    assert [each.wait(timeout=250) for each in running] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.long
@pytest.mark.parametrize("case", LEARNERS)
def test_two_processes_step_apart_as_it_is_written_out_by_hand(both, case):
    for ours, other, meant in zip(both[0][case][0], both[1][case][0], by_hand(case, 2), strict=True):
        torch.testing.assert_close(ours, meant, rtol=1e-12, atol=1e-14)
        assert torch.equal(ours, other)
    together = by_hand(case, 1)  # what one process comes to is something else
    assert not torch.allclose(both[0][case][0][0], together[0], rtol=1e-6)


@pytest.mark.long
def test_a_process_whose_numbers_are_not_finite_leaves_out_its_own_step(both):
    meant = by_hand("reptile", 2, left_out=[(1, 1)])
    for rank in both:
        weights, skipped = rank["broken"]
        assert skipped == 1
        for ours, value in zip(weights, meant, strict=True):
            torch.testing.assert_close(ours, value, rtol=1e-12, atol=1e-14)


@pytest.mark.long
def test_a_run_that_is_resumed_has_the_same_bits(both):
    for rank in both:
        assert all(map(torch.equal, rank["resumed"][0], rank["reptile"][0]))


def test_one_process_has_nobody_to_be_apart_from():
    weights, _ = trained("reptile", settings())
    plain, _ = trained("reptile", fa.Training(6, TASKS, "sgd", RATE))
    assert all(map(torch.equal, weights, plain))
    for ours, meant in zip(weights, by_hand("reptile", 1), strict=True):
        torch.testing.assert_close(ours, meant, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("learner", "more", "words"),
    [
        (lambda: fa.MAML(net(), rule=fa.SGD(0.1)), {}, "MAML is no method whose outer steps may be taken apart"),
        (lambda: ProtoNet(net()), {}, "ProtoNet is no method whose outer steps"),
        (lambda: fa.Reptile(net(), inner_state="serial"), {}, "inner_state='serial' hands the inner rule's state"),
        (LEARNERS["reptile"], {"optimizer": "adam"}, "Adam keeps moments of each process"),
        (LEARNERS["reptile"], {"momentum": 0.9}, "SGD keeps moments of each process"),
    ],
)
def test_what_is_not_sound_is_refused(learner, more, words):
    made, training = learner(), settings(**more)
    with pytest.raises(fa.FastadaptError, match=words):
        check_sound(made, training, training.build_optimizer(made))


@pytest.mark.parametrize("name", ["steps", "log_every", "checkpoint_every", "validate_every"])
def test_what_is_written_falls_on_the_end_of_a_round(name):
    with pytest.raises(fa.FastadaptError, match=f"training.{name} must be a multiple of training.local_steps=3"):
        settings(**{name: 4})


def test_a_run_goes_on_with_its_own_local_steps():
    before = dataclasses.asdict(settings())
    assert settings().conflicts(before) == []
    assert settings().conflicts({**before, "local_steps": 1}) == ["local_steps: 1 -> 3"]
    del before["local_steps"]  # a run of before there were any
    assert settings().conflicts(before) == ["local_steps: 1 -> 3"]


if __name__ == "__main__":
    process(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
