"""Tasks are kept for a while: by age, by number and by memory."""

import pytest
import torch

from fastadapt.layers.norm import Norm
from fastadapt.predictor import Predictor
from fastadapt.serve.jobs import Job
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.store import Adapted, Store


class Clock:
    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def support(numbers=10):
    return torch.zeros(numbers, 1), torch.zeros(numbers, 1)


def adapted(steps=1, numbers=4, norm: Norm = "support"):
    return Adapted(Predictor(torch.nn.Linear(numbers, 1), norm), steps, None)


def test_a_task_goes_when_it_has_not_been_used_for_long():
    clock = Clock()
    store = Store(Limits(), clock)
    task, other = store.add("m", None, [10], support()), store.add("m", None, [10], support())
    clock.time += 1700
    assert store.get(task.id) is task and store.expires_in(task) == 1800
    assert store.expires_in(other) == 100
    clock.time += 200
    store.sweep()
    assert len(store) == 1 and store.get(task.id) is task
    with pytest.raises(Problem, match="expired") as caught:
        store.get(other.id)
    assert caught.value.status == 404


def test_the_task_unused_for_longest_goes_when_there_are_too_many():
    clock = Clock()
    store = Store(Limits(tasks=3), clock)
    first, second, third = (store.add("m", None, [1], support()) for _ in range(3))
    clock.time += 1
    store.get(first.id)
    fourth = store.add("m", None, [1], support())
    assert len(store) == 3
    with pytest.raises(Problem):
        store.get(second.id)
    assert [store.get(task.id) for task in (first, third, fourth)] == [first, third, fourth]


def test_what_is_adapted_counts_and_pushes_older_tasks_out():
    store = Store(Limits(store_bytes=1000), Clock())
    old, new = store.add("m", None, [1], support()), store.add("m", None, [1], support())
    assert store.size == 160
    job = Job(1)
    store.start(new, job)
    store.finish(new, job, "maml", adapted(numbers=300))
    assert len(store) == 1 and store.size == 80 + 1204  # the newest stays, however large
    with pytest.raises(Problem):
        store.get(old.id)


def test_only_the_newest_adaptation_leaves_something():
    store = Store(Limits(), Clock())
    task = store.add("m", None, [1], support())
    older, newer = Job(1), Job(1)
    store.start(task, older)
    store.start(task, newer)
    assert older.cancelled and not newer.cancelled
    store.finish(task, newer, "maml", adapted(2))
    store.finish(task, older, "maml", adapted(1))
    assert task.adapted["maml"].steps == 2


def test_dropping_and_expiring_stop_what_runs():
    clock = Clock()
    store = Store(Limits(), clock)
    tasks = [store.add("m", None, [1], support()) for _ in range(2)]
    jobs = [Job(1), Job(1)]
    for task, job in zip(tasks, jobs, strict=True):
        store.start(task, job)
    store.drop(tasks[0].id)
    assert jobs[0].cancelled and not jobs[1].cancelled
    clock.time += 1801
    store.sweep()
    assert jobs[1].cancelled and len(store) == 0


def test_ids_are_long_and_never_the_same():
    store = Store(Limits(tasks=2000), Clock())
    ids = {store.add("m", None, [1], support(1)).id for _ in range(1000)}
    assert len(ids) == 1000 and {len(name) for name in ids} == {22}


def test_memory_comes_back_when_tasks_go():
    clock = Clock()
    store = Store(Limits(store_bytes=10**9), clock)
    for _ in range(50):
        store.add("m", None, [1], support(100_000))
    assert store.size == 50 * 800_000
    clock.time += 1801
    store.sweep()
    assert store.size == 0 and len(store) == 0


def test_the_total_stays_the_sum_of_what_is_kept():
    store = Store(Limits(tasks=3))
    tasks = [store.add("m", None, [2], support(10 * (i + 1))) for i in range(4)]
    for task in tasks:  # the first one is gone already
        for numbers in (4, 8):
            job = Job(1)
            store.start(task, job)
            store.finish(task, job, "maml", adapted(numbers=numbers))
    kept = tasks[1:]
    assert store.size == sum(task.size for task in kept) == sum(80 * (i + 2) + 36 for i in range(3))
    store.drop(tasks[2].id)
    assert store.size == sum(task.size for task in (tasks[1], tasks[3]))
