import copy
import hashlib

import numpy as np
import pytest
import torch

from fastadapt import MAML, SGD, Reptile, Sinusoid, Task, Tasks, TaskSource, group_by_shape
from fastadapt.errors import TaskError
from fastadapt.tasks import BatchTaskSource, Collector, as_groups, draw, draw_batch, sampler, task_rng, task_rngs


def sample(rng):
    x = torch.as_tensor(rng.normal(size=(6, 2)), dtype=torch.float32)
    return Task((x[:4], x[:4].sum(1, keepdim=True)), (x[4:], x[4:].sum(1, keepdim=True)))


def ragged():
    return [sample(task_rng(0, "t", i)) if i % 2 else Task(*draw_small(i)) for i in range(5)]


def draw_small(i):
    task = sample(task_rng(0, "t", i))
    return tuple(v[:3] for v in task.support), task.query


def line():
    return torch.nn.Linear(2, 1)


def test_a_task_depends_on_seed_split_and_number_and_on_nothing_else():
    many = draw(sample, seed=3, split="train", indices=range(8))
    [one] = draw(sample, seed=3, split="train", indices=[5])
    assert torch.equal(one.support[0], many[5].support[0])
    values = {float(t.support[0][0, 0]) for t in many}
    for seed, split in ((4, "train"), (3, "val")):
        values |= {float(t.support[0][0, 0]) for t in draw(sample, seed=seed, split=split, indices=range(8))}
    assert len(values) == 24


def test_streams_of_neighbouring_tasks_do_not_overlap():
    a, b = (task_rng(0, "train", i).random(10_000) for i in (0, 1))
    assert not np.isin(a, b).any()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_numbers_may_be_as_large_as_a_long_run_needs():
    assert task_rng(2**63 - 1, "train", 2**40).random() != task_rng(2**63 - 1, "train", 2**40 + 1).random()


def test_a_generator_is_philox_with_its_key_and_counter():
    key = int.from_bytes(hashlib.sha256(b"train").digest()[:8], "little")
    for seed, index in ((0, 0), (5, 7), (2**63 - 1, 2**64 - 1)):
        words = np.array([0, 0, 0, index], dtype=np.uint64), np.array([seed, key], dtype=np.uint64)
        plain = np.random.Generator(np.random.Philox(counter=words[0], key=words[1]))
        assert np.array_equal(task_rng(seed, "train", index).random(9), plain.random(9))
    assert task_rng(0, "train", 0).random() == 0.20217070243981505  # a stream is a promise


def test_many_generators_are_those_of_their_tasks_and_independent_of_one_another():
    rngs = task_rngs(1, "train", [4, 2, 4])
    assert len(rngs) == 3
    last, first = rngs[2].random(50), rngs[0].random(50)  # used in any order, and at once
    assert np.array_equal(first, last)
    assert np.array_equal(rngs[1].random(50), task_rng(1, "train", 2).random(50))
    copied = copy.deepcopy(rngs[1])
    assert copied.random() == rngs[1].random()


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(seed, index):
    with pytest.raises(TaskError, match="-1"):
        task_rng(seed, "train", index)


def test_a_source_is_an_object_with_sample_or_a_function():
    class Source:
        def sample(self, rng):
            return sample(rng)

    assert isinstance(Source(), TaskSource)
    for source in (Source(), sample):
        assert isinstance(sampler(source)(task_rng(0, "a", 0)), Task)
    with pytest.raises(TaskError, match="int"):
        sampler(3)
    with pytest.raises(TaskError, match="tuple"):
        draw(lambda rng: (1, 2), seed=0, split="a", indices=[0])


def test_grouping_stacks_equal_shapes_and_remembers_the_places():
    tasks = ragged()
    groups = group_by_shape(tasks)
    assert [g.positions for g in groups] == [(0, 2, 4), (1, 3)]
    for group in groups:
        for task, position in zip(group, group.positions, strict=True):
            for got, want in zip(
                (*task.support, *task.query), (*tasks[position].support, *tasks[position].query), strict=True
            ):
                assert torch.equal(got, want)


def test_tasks_of_other_types_or_structures_are_not_stacked_together():
    x = torch.zeros(2, 1)
    assert (
        len(group_by_shape([Task((x, x), (x, x)), Task((x, x.double()), (x, x)), Task({"a": x, "b": x}, (x, x))])) == 3
    )


def test_every_form_of_a_meta_batch_gives_the_same_losses():
    tasks = draw(sample, seed=0, split="t", indices=range(4))
    learner = MAML(line(), rule=SGD(0.1))
    want = learner(tasks).losses
    [stacked] = group_by_shape(tasks)
    halves = [group_by_shape(tasks[:2])[0], group_by_shape(tasks[2:])[0]]  # each numbered from 0
    for form in (stacked, [stacked], tuple(tasks), halves):
        torch.testing.assert_close(learner(form).losses, want)
    torch.testing.assert_close(learner(tasks[1]).losses, want[1:2])


@pytest.mark.parametrize("build", [MAML, Reptile, lambda net: Reptile(net, inner_state="serial")])
def test_groups_that_were_stacked_by_hand_keep_their_order_and_their_rates(build):
    tasks = ragged()
    groups = group_by_shape(tasks)
    anonymous = [Tasks(g.support, g.query) for g in groups]
    order = [p for g in groups for p in g.positions]
    learner = build(line())
    twin = copy.deepcopy(learner)
    torch.testing.assert_close(learner(anonymous).losses, twin([tasks[p] for p in order]).losses)
    if build is MAML:
        rates = torch.rand(5)
        by_list = learner([tasks[p] for p in order], inner_lr=rates).losses
        torch.testing.assert_close(learner(anonymous, inner_lr=rates).losses, by_list)


def test_a_part_of_a_larger_batch_can_stand_alone():
    second = group_by_shape(ragged())[1]
    assert second.positions == (1, 3)
    assert as_groups(second)[0].positions == (0, 1)
    assert MAML(line())(second, inner_lr=torch.tensor([0.1, 0.2])).losses.shape == (2,)


def equal(groups, others):
    assert [g.positions for g in groups] == [g.positions for g in others]
    for group, other in zip(groups, others, strict=True):
        for got, want in zip((*group.support, *group.query), (*other.support, *other.query), strict=True):
            assert torch.equal(got, want)


def test_a_source_without_batches_is_drawn_task_by_task():
    class Source:
        def sample(self, rng):
            return sample(rng)

    wanted = group_by_shape(draw(sample, seed=1, split="t", indices=[5, 2]))
    assert not isinstance(Source(), BatchTaskSource) and isinstance(Sinusoid(), BatchTaskSource)
    for source in (Source(), sample, Source().sample):
        equal(draw_batch(source, seed=1, split="t", indices=(i for i in (5, 2))), wanted)


def test_a_drawn_meta_batch_of_mixed_shapes_is_grouped():
    def ragged_sample(rng):
        return Sinusoid(shots=int(rng.integers(1, 4))).sample(rng)

    groups = draw_batch(ragged_sample, seed=0, split="t", indices=range(12))
    equal(groups, group_by_shape(draw(ragged_sample, seed=0, split="t", indices=range(12))))
    assert len(groups) == 3 and sorted(p for g in groups for p in g.positions) == list(range(12))


def test_a_class_that_overrides_how_one_task_is_drawn_is_asked_for_single_tasks():
    class Flat(Sinusoid):
        def sample(self, rng):
            task = super().sample(rng)
            return Task(*((x, torch.zeros_like(y)) for x, y in (task.support, task.query)))

    class Both(Flat):
        def sample_batch(self, rngs):
            tasks = super().sample_batch(rngs)
            return Tasks(*((x, torch.zeros_like(y)) for x, y in (tasks.support, tasks.query)))

    for source in (Flat(), Both()):
        [group] = draw_batch(source, seed=0, split="t", indices=range(3))
        assert not group.support[1].any() and not group.query[1].any()
    assert draw_batch(Sinusoid(), seed=0, split="t", indices=range(3))[0].support[1].all()


def short(rngs):
    return group_by_shape([sample(rngs[0])])[0]


@pytest.mark.parametrize(
    ("returned", "words"), [(lambda rngs: [sample(r) for r in rngs], "got list"), (short, "1 tasks")]
)
def test_a_batch_that_is_not_one_task_per_generator_is_refused(returned, words):
    class Source:
        sample = staticmethod(sample)
        sample_batch = staticmethod(returned)

    with pytest.raises(TaskError, match=f"Source must return .*{words} for 3"):
        draw_batch(Source(), seed=0, split="t", indices=range(3))


def test_a_meta_batch_has_a_task():
    for source in (Sinusoid(), sample):
        with pytest.raises(TaskError, match="at least one task"):
            draw_batch(source, seed=0, split="t", indices=[])


def test_tasks_that_are_there_already_are_not_moved():
    group = group_by_shape(ragged())[0]
    assert group.to("cpu") is group


def test_moving_to_a_device_moves_every_tensor_and_keeps_the_places():
    group = group_by_shape(ragged())[1].to("meta")
    assert group.positions == (1, 3)
    assert {t.device.type for t in (*group.support, *group.query)} == {"meta"}


def test_collectors_are_grouped_without_being_called():
    tasks = [Task(Collector(lambda model: 1 / 0), Collector(lambda model: 1 / 0)) for _ in range(3)]
    [group] = group_by_shape(tasks)
    assert len(group) == 3 and not group.stacked and group.collects
    assert group[2].support is tasks[2].support
    assert group.to("meta") is group


@pytest.mark.parametrize("tasks", [[], [1, 2], [Task((1.0,), (2.0,))]])
def test_what_is_no_meta_batch_is_refused(tasks):
    with pytest.raises(TaskError):
        as_groups(tasks)


@pytest.mark.parametrize(
    "leaves", [(torch.zeros(2, 3), torch.zeros(3, 3)), (torch.zeros(2, 3), torch.zeros(())), (torch.zeros(0, 3),) * 2]
)
def test_tensors_that_do_not_share_a_task_axis_are_refused(leaves):
    with pytest.raises(TaskError, match="leading task axis"):
        Tasks(leaves[:1], leaves[1:])
