"""Meta-training begins where ordinary training ended, and keeps the checkpoint that is best after adaptation."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fastadapt as fa
from fastadapt.training.checkpoint import best_checkpoint
from fastadapt.training.outer_step import Stepped


def waves():
    return fa.Sinusoid(shots=5)


def net():
    return fa.MLP(1, (8,), 1)


@pytest.mark.parametrize("by", ["state dict", "file", "module", "folder"])
def test_a_learner_begins_at_pretrained_weights(by, tmp_path):
    trained = fa.Pretrain(net(), rule=fa.SGD(0.01), test_steps=3)
    fa.meta_train(trained, waves(), fa.Training(steps=3, meta_batch=2), folder=tmp_path / "run", quiet=True)
    start = net()
    if by == "state dict":
        start.load_state_dict(trained.model.state_dict())
    elif by == "file":
        save_file(trained.model.state_dict(), tmp_path / "net.safetensors")
        start.load_state_dict(load_file(tmp_path / "net.safetensors"))
    elif by == "module":
        start = trained.model
    else:
        empty = fa.Pretrain(start, rule=fa.SGD(0.01), test_steps=3)
        start = fa.load_run(tmp_path / "run", model=empty).learner.model
    learner = fa.MAML(start, rule=fa.SGD(0.01), steps=1)
    tasks = fa.draw(waves(), seed=0, split="test", indices=range(3))
    assert torch.equal(learner.trace(tasks, 3).losses, trained.trace(tasks, 3).losses)
    learner(tasks).loss.backward()
    assert all(p.grad is not None for p in learner.parameters())


class Product(nn.Module):
    """y = u v x: at u = 0 no step moves it, and from a larger u fewer steps are needed."""

    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.u * self.v * x


def test_the_best_checkpoint_is_the_one_that_adapts_best(tmp_path):
    visited = [(0.0, 0.0), (0.7, 0.6), (3.0, 1.5)]  # best as it is, best after two steps, bad

    def sample(rng):
        x = torch.ones(2, 1)
        y = x * float(rng.choice((-1.0, 1.0)))
        return fa.Task((x, y), (x, y))

    def visit(learner, tasks, optimizer, training):
        u, v = visited.pop(0)
        with torch.no_grad():
            learner.model.u.fill_(u)
            learner.model.v.fill_(v)
        return Stepped(learner(tasks), True, torch.zeros(()))

    learner = fa.MAML(Product(), rule=fa.SGD(0.4), steps=2)
    training = fa.Training(steps=3, meta_batch=2, validate_every=1, log_every=1)
    protocol = fa.Protocol("val-v1", tasks=20, split="val")
    fa.meta_train(
        learner, sample, training, validation=sample, protocol=protocol, folder=tmp_path, outer_step=visit, quiet=True
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if any("val" in name for name in line)]
    assert len(seen) == 3
    best = best_checkpoint(tmp_path / "checkpoints")
    assert best is not None and best.step == 2
    again = fa.load_run(tmp_path, model=fa.MAML(Product(), rule=fa.SGD(0.4), steps=2))
    assert again.step == 2 and round(float(again.learner.model.u.detach()), 6) == 0.7
    unadapted = {}
    for u, v in ((0.0, 0.0), (0.7, 0.6)):
        with torch.no_grad():
            learner.model.u.fill_(u)
            learner.model.v.fill_(v)
        result = fa.evaluate(learner, sample, protocol)
        unadapted[u] = result.mean[0], result.result
    assert unadapted[0.0][0] < unadapted[0.7][0] and unadapted[0.0][1] > unadapted[0.7][1]
