"""Tasks in a DataLoader: collated by torch itself or kept as a list, in this process or in a worker."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

import fastadapt as fa
from foreign.by_hand import apart, regression
from foreign.test_lightning import RATE, mse, net, one_group


def losses(model, batch):
    return fa.MAML(model, mse, rule=fa.SGD(RATE), steps=2)(batch).losses


def flat(batches):
    return torch.cat(batches)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("collate", [list, one_group, None], ids=["list", "Tasks", "default_collate"])
def test_loader_gives_the_numbers_of_the_tasks(collate, workers):
    model, tasks = net(), regression(5)
    want = losses(model, tasks)
    loader = DataLoader(tasks, 2, collate_fn=collate, num_workers=workers)
    assert apart([flat([losses(model, batch) for batch in loader])], [want]) < 1e-12


def test_default_collate_stacks_tasks():
    tasks = regression(3)
    [group] = default_collate(tasks)
    assert isinstance(group, fa.Tasks)
    assert len(group) == 3
    assert torch.equal(group.support[0], torch.stack([t.support[0] for t in tasks]))
    assert torch.equal(group.query[1], torch.stack([t.query[1] for t in tasks]))


def test_default_collate_of_different_shapes_is_right_or_one_sentence():
    model = net()
    tasks = [*regression(1, shots=5), *regression(1, shots=4)]
    try:
        batch = default_collate(tasks)
    except fa.FastadaptError as error:
        assert "\n" not in str(error)
    else:
        assert apart([losses(model, batch)], [losses(model, tasks)]) < 1e-12


def test_default_collate_of_tasks_inside_a_mapping():
    tasks = regression(2)
    batch = default_collate([{"task": task, "number": i} for i, task in enumerate(tasks)])
    assert batch["number"].tolist() == [0, 1]
    model = net()
    assert apart([losses(model, batch["task"])], [losses(model, tasks)]) < 1e-12


class Stream(IterableDataset):
    def __init__(self, tasks):
        self.tasks = tasks

    def __iter__(self):
        return iter(self.tasks)


class Drawn(Dataset):
    """Tasks that are made where they are asked for."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)

        def batch(n):
            return torch.randn(n, 3, generator=generator), torch.randn(n, 2, generator=generator)

        return fa.Task(batch(5), batch(6))


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_and_data_sets_of_ones_own(workers):
    model, data = net(), Drawn()
    tasks = [data[i] for i in range(4)]
    want = losses(model, tasks)
    for source in (data, Stream(tasks)):
        loader = DataLoader(source, 2, collate_fn=list, num_workers=workers)
        assert apart([flat([losses(model, batch) for batch in loader])], [want]) < 1e-12


def test_a_task_alone_comes_unbatched():
    model, tasks = net(), regression(3)
    loader = DataLoader(tasks, batch_size=None)
    got = flat([losses(model, task) for task in loader])
    assert apart([got], [losses(model, tasks)]) < 1e-12
