import copy

import numpy as np
import pytest
import torch

from fastadapt import MAML, SGD, Reptile, Task, Tasks, TaskSource, group_by_shape
from fastadapt.errors import TaskError
from fastadapt.tasks import as_groups, draw, sampler, task_rng


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


def test_moving_to_a_device_moves_every_tensor_and_keeps_the_places():
    group = group_by_shape(ragged())[1].to("meta")
    assert group.positions == (1, 3)
    assert {t.device.type for t in (*group.support, *group.query)} == {"meta"}


def test_collectors_are_grouped_without_being_called():
    tasks = [Task(lambda model: 1 / 0, lambda model: 1 / 0) for _ in range(3)]
    [group] = group_by_shape(tasks)
    assert len(group) == 3 and not group.stacked
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
