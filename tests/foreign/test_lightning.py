"""Lightning's Trainer moves, converts and autocasts what a loader yields; the learner is a part of its module."""

import copy

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import fastadapt as fa
from foreign.by_hand import Plain, apart, is_a_sentence, or_a_sentence, regression

RATE, OUTER = 0.2, 0.1


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def net():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


class Module(lightning.LightningModule):
    def __init__(self, learner):
        super().__init__()
        self.learner, self.seen = learner, []

    def training_step(self, tasks, _):
        loss = self.learner(tasks).loss
        self.seen.append(loss.detach())
        return loss

    def validation_step(self, tasks, _):
        self.log("val", self.learner.trace(tasks).losses[:, -1].mean(), batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), OUTER)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "barebones": False}
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **quiet,
        **options,
    )


def one_group(tasks):
    [group] = fa.group_by_shape(tasks)
    return group


def trained(model, tasks, collate, **options):
    """Return the weights after an epoch in meta-batches of two, and the losses on the way."""
    module = Module(fa.MAML(model, mse, rule=fa.SGD(RATE), steps=2))
    trainer(**options).fit(module, DataLoader(tasks, 2, collate_fn=collate))
    return list(model.parameters()), torch.stack(module.seen)


def by_hand(model, tasks):
    """Return the same from a written-out loop."""
    losses = []
    for at in range(0, len(tasks), 2):
        plain = Plain(model, mse, tasks[at : at + 2], RATE)
        losses.append(plain.losses(2).mean())
        grads = plain.exact(2)
        with torch.no_grad():
            for p, g in zip(model.parameters(), grads, strict=True):
                p -= OUTER * g
    return list(model.parameters()), torch.stack(losses)


def twins():
    one, other = net(), net()
    other.load_state_dict(one.state_dict())
    return one, other


def cast(tasks, dtype):
    return [fa.Task(*(tuple(x.to(dtype) for x in batch) for batch in (t.support, t.query))) for t in tasks]


both_forms = pytest.mark.parametrize("collate", [list, one_group], ids=["list of Task", "Tasks"])


@both_forms
def test_trainer_takes_tasks(collate):
    torch.set_default_dtype(torch.float32)
    one, other = twins()
    tasks = regression(6)
    weights, losses = trained(one, tasks, collate)
    want, right = by_hand(other.double(), cast(tasks, torch.float64))
    assert apart([losses.double()], [right]) < 1e-5
    assert apart([w.double() for w in weights], want) < 1e-5


@both_forms
def test_double_precision_of_the_trainer(collate):
    one, other = twins()
    tasks = regression(6)
    weights, losses = trained(one, tasks, collate, precision="64-true")
    want, right = by_hand(other, tasks)
    assert apart([losses], [right]) < 1e-12
    assert apart(weights, want) < 1e-12


@both_forms
def test_double_precision_converts_single_tasks_or_says_what_to_do(collate):
    one, other = twins()
    tasks = cast(regression(6), torch.float32)
    with or_a_sentence("float32", "float64", "dtype", "precision"):
        weights, _ = trained(one, tasks, collate, precision="64-true")
        want, _ = by_hand(other, cast(tasks, torch.float64))
        assert apart(weights, want) < 1e-12


@both_forms
def test_mixed_precision_of_the_trainer(collate):
    torch.set_default_dtype(torch.float32)
    one, other = twins()
    start = [p.detach().clone() for p in one.parameters()]
    tasks = regression(6)
    weights, losses = trained(one, tasks, collate, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in weights)
    plain = copy.deepcopy(other).double()
    # by hand weights are moved in place, which the cache of casts would not notice
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        want, right = by_hand(other, tasks)
    # it is the autocast that is seen, and no more than its eight bits of mantissa; by how far the weights went
    assert 1e-5 < apart([losses.double()], [by_hand(plain, cast(tasks, torch.float64))[1]]) < 0.03
    assert apart([losses], [right]) < 0.01
    moved, right = ([p - s for p, s in zip(end, start, strict=True)] for end in (weights, want))
    assert apart(moved, right) < 0.03


@both_forms
def test_trainer_validates_by_the_trace(collate):
    model = net()
    tasks = regression(4)
    module = Module(fa.MAML(model, mse, rule=fa.SGD(RATE), steps=2))
    [got] = trainer().validate(module, DataLoader(tasks, 4, collate_fn=collate), verbose=False)
    assert got["val"] == pytest.approx(Plain(model, mse, tasks, RATE).losses(2).mean().item(), rel=1e-5)


def test_a_list_of_tasks_of_different_shapes():
    one, other = twins()
    tasks = [task for pair in zip(regression(2, shots=5), regression(2, shots=4), strict=True) for task in pair]
    weights, _ = trained(one, tasks, list)
    want, _ = by_hand(other, tasks)
    assert apart(weights, want) < 1e-12


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_with_workers(workers):
    one, other = twins()
    tasks = regression(4)
    module = Module(fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2))
    trainer().fit(module, DataLoader(tasks, 2, collate_fn=list, num_workers=workers))
    want, _ = by_hand(other, tasks)
    assert apart(list(one.parameters()), want) < 1e-12


@both_forms
def test_fabric_moves_tasks(collate):
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    one, other = twins()
    learner = fa.MAML(one, mse, rule=fa.SGD(RATE), steps=2)
    learner, optimizer = fabric.setup(learner, torch.optim.SGD(learner.parameters(), OUTER))
    tasks = regression(4)
    for batch in fabric.setup_dataloaders(DataLoader(tasks, 2, collate_fn=collate)):
        optimizer.zero_grad()
        fabric.backward(learner(batch).loss)
        optimizer.step()
    want, _ = by_hand(other, tasks)
    assert apart(list(one.parameters()), want) < 1e-12


def test_a_batch_that_is_no_meta_batch_is_one_sentence():
    learner = fa.MAML(net(), mse)
    with pytest.raises(fa.FastadaptError) as caught:
        learner([torch.randn(2, 3), torch.randn(2, 2)])
    is_a_sentence(caught.value, "task")
