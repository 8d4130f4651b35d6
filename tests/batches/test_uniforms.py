"""Numbers of many tasks at once, and tasks made ahead of them: bit for bit those of the tasks' own generators."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import fastadapt.tasks
from fastadapt import Sinusoid, Task, Tasks, draw
from fastadapt.batches.uniforms import uniforms
from fastadapt.errors import TaskError
from fastadapt.tasks import draw_batch, group_by_shape


@pytest.mark.parametrize("count", [0, 1, 4, 22, 101])
@pytest.mark.parametrize("indices", [[], [0], [9, 5, 2**40], range(3000)], ids=len)
@pytest.mark.parametrize("seed, split", [(0, "train"), (2**63 - 1, "val")])
def test_numbers_are_those_of_numpys_generators(seed, split, indices, count):
    for t, row in enumerate(uniforms(seed, split, indices, count)):
        # written out, so that it shares nothing with the streams
        key = fastadapt.batches.streams.key_of(seed, split)
        counter = np.array([0, 0, 0, indices[t]], np.uint64)
        assert (row == np.random.Generator(np.random.Philox(key=key, counter=counter)).random(count)).all()
        if t > 20:
            break
    assert uniforms(seed, split, indices, count).shape == (len(indices), count)


KINDS = [Sinusoid(), Sinusoid("reptile", queries=0), Sinusoid(shots=3, queries=70, grid=True, oracle=True, half="left")]


@pytest.mark.parametrize("source", KINDS, ids=["maml", "reptile", "grid"])
@pytest.mark.parametrize("start, count", [(0, 25), (7, 8), (1480, 25), (3, 1000), (0, 3)])
def test_tasks_made_ahead_are_those_drawn_alone(source, start, count):
    numbers = range(start, start + count)
    [got] = draw_batch(source, seed=4, split="train", indices=numbers)
    [want] = group_by_shape(draw(source, seed=4, split="train", indices=numbers))
    for ours, theirs in zip((*got.support, *got.query), (*want.support, *want.query), strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    assert got.positions == want.positions


def test_what_is_done_to_drawn_tasks_stays_with_them():
    first, second = (draw_batch(Sinusoid(), seed=0, split="train", indices=range(25))[0] for _ in range(2))
    first.support[0].zero_()
    [third] = draw_batch(Sinusoid(), seed=0, split="train", indices=range(25))
    assert torch.equal(second.support[0], third.support[0]) and second.support[0].any()


@pytest.mark.parametrize("numbers", [[3, 1, 2, 9, 8, 7, 6, 5, 4], list(range(0, 40, 2)), [5] * 10])
def test_other_orders_are_drawn_as_they_are(numbers):
    [got] = draw_batch(Sinusoid(), seed=1, split="val", indices=numbers)
    [want] = group_by_shape(draw(Sinusoid(), seed=1, split="val", indices=numbers))
    assert torch.equal(got.query[1], want.query[1])


def test_numbers_below_zero_are_refused_as_always():
    for seed, numbers in ((-1, range(20)), (0, range(-5, 20))):
        with pytest.raises(TaskError, match="must be >= 0"):
            draw_batch(Sinusoid(), seed=seed, split="train", indices=numbers)


@dataclass(frozen=True)
class Doubled(Sinusoid):
    """Redefine its tasks by `sample` alone."""

    def sample(self, rng):
        task = super().sample(rng)
        return Task(task.support, (2 * task.query[0], task.query[1]))


def test_a_class_that_says_anew_what_a_task_is_is_asked_for_it():
    [got] = draw_batch(Doubled(), seed=0, split="train", indices=range(20))
    [want] = draw_batch(Sinusoid(), seed=0, split="train", indices=range(20))
    assert torch.equal(got.query[0], 2 * want.query[0])


def test_tasks_are_themselves_on_the_device_where_they_are():
    [tasks] = draw_batch(Sinusoid(), seed=0, split="train", indices=range(10))
    assert tasks.to(torch.device("cpu")) is tasks
    assert tasks.to(torch.device("cpu"), torch.float64).support[0].dtype == torch.float64
    with pytest.raises(TaskError, match="leave it out"):
        tasks.to(torch.device("cpu"), copy=True)
    assert isinstance(tasks, Tasks)
