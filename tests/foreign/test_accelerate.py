"""Accelerate: the loader, the learner and the optimizer are prepared, and batches are sent to the device."""

import accelerate
import pytest
import torch
from accelerate.utils import send_to_device
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

import fastadapt as fa
from foreign.by_hand import apart, regression
from foreign.test_lightning import OUTER, RATE, both_forms, by_hand, mse, one_group, twins


@pytest.fixture(autouse=True)
def fresh_state():
    """One process holds one precision otherwise."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def leaves(batch):
    tasks = list(batch) if isinstance(batch, (fa.Tasks, list)) else [batch]
    return [leaf for task in tasks for leaf in pytree.tree_leaves((task.support, task.query))]


@both_forms
def test_send_to_device_moves_every_tensor(collate):
    sent = send_to_device(collate(regression(2)), "meta")
    assert len(leaves(sent)) == 8
    assert {leaf.device.type for leaf in leaves(sent)} == {"meta"}


def test_send_to_device_moves_one_task_and_nested_ones():
    task = regression(1)[0]
    sent = send_to_device({"tasks": (task, [task])}, "meta")
    assert {leaf.device.type for leaf in leaves(sent["tasks"][0]) + leaves(sent["tasks"][1])} == {"meta"}
    assert isinstance(sent["tasks"][0], fa.Task)


def test_non_blocking_is_understood():
    task = regression(1)[0]
    assert {x.device.type for x in leaves(send_to_device([task], "meta", non_blocking=True))} == {"meta"}
    assert {x.device.type for x in leaves(send_to_device(one_group([task]), "meta", non_blocking=True))} == {"meta"}


@both_forms
@pytest.mark.parametrize("workers", [0, 1])
def test_prepared_training(collate, workers):
    accelerator = accelerate.Accelerator(cpu=True)
    one, other = twins()
    learner = fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2)
    tasks = regression(6)
    loader = DataLoader(tasks, 2, collate_fn=collate, num_workers=workers)
    learner, optimizer, loader = accelerator.prepare(learner, torch.optim.SGD(learner.parameters(), OUTER), loader)
    for batch in loader:
        optimizer.zero_grad()
        accelerator.backward(learner(batch).loss)
        optimizer.step()
    want, _ = by_hand(other, tasks)
    assert apart(list(one.parameters()), want) < 1e-12


@both_forms
def test_gradients_are_accumulated(collate):
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    one, other = twins()
    learner = fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2)
    tasks = regression(4)
    loader = DataLoader(tasks, 1, collate_fn=collate)
    learner, optimizer, loader = accelerator.prepare(learner, torch.optim.SGD(learner.parameters(), OUTER), loader)
    for batch in loader:
        with accelerator.accumulate(learner):
            accelerator.backward(learner(batch).loss)
            optimizer.step()
            optimizer.zero_grad()
    want, _ = by_hand(other, tasks)
    assert apart(list(one.parameters()), want) < 1e-12


def test_autocast_of_the_prepared_learner():
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    torch.set_default_dtype(torch.float32)
    one, other = twins()
    tasks = regression(2)
    learner = accelerator.prepare(fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2))
    accelerator.backward(learner(tasks).loss)
    got = [p.grad for p in one.parameters()]
    plain = fa.MAML(other, mse, rule=fa.SGD(RATE), steps=2)
    plain(tasks).loss.backward()
    assert 1e-6 < apart(got, [p.grad for p in other.parameters()]) < 0.05


def test_a_saved_state_comes_back(tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    one, _ = twins()
    learner = fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2)
    learner, optimizer = accelerator.prepare(learner, torch.optim.Adam(learner.parameters(), OUTER))
    tasks = regression(2)

    def step():
        optimizer.zero_grad()
        loss = learner(tasks).loss
        accelerator.backward(loss)
        optimizer.step()
        return loss.item()

    step()
    accelerator.save_state(str(tmp_path))
    right = [step(), step()]
    accelerator.load_state(str(tmp_path))
    assert [step(), step()] == right
