"""Checkpoints: complete or absent, verified, exact."""

import json
import logging
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Sinusoid, Training, meta_train
from fastadapt.errors import CheckpointError
from fastadapt.training.checkpoint import (
    Checkpoint,
    best_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    prune,
    save_checkpoint,
)
from fastadapt.training.saved_steps import saved_steps


def make(step: int, score: float | None = None) -> Checkpoint:
    net = torch.nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.fill_(float(step))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(step, net.state_dict(), optimizer.state_dict(), {"score": score})


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    original = make(7, score=0.5)
    found = load_checkpoint(save_checkpoint(tmp_path, original))
    assert found.step == 7
    assert found.state == {"score": 0.5}
    assert all(torch.equal(found.learner[name], value) for name, value in original.learner.items())
    assert found.optimizer["param_groups"] == original.optimizer["param_groups"]
    for index, slots in original.optimizer["state"].items():
        assert all(torch.equal(found.optimizer["state"][index][key], value) for key, value in slots.items())


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"])
def test_every_torch_optimizer_goes_on_exactly(tmp_path: Path, optimizer: str) -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        extra = {"momentum": 0.9} if optimizer == "SGD" else {}
        return net, getattr(torch.optim, optimizer)(net.parameters(), lr=0.1, **extra)

    def steps(net: torch.nn.Linear, outer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            outer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            outer.step()

    net, outer = build()
    steps(net, outer, 2)
    save_checkpoint(tmp_path, Checkpoint(2, net.state_dict(), outer.state_dict(), {}))
    steps(net, outer, 2)
    other, resumed = build()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    other.load_state_dict(found.learner)
    resumed.load_state_dict(found.optimizer)
    steps(other, resumed, 2)
    assert torch.equal(net.weight, other.weight)


def damage(folder: Path, rng: random.Random) -> None:
    """Do one of the things that happen to files."""
    files = sorted(folder.iterdir())
    file = rng.choice(files)
    kind = rng.choice(["truncate", "flip", "remove", "empty", "version", "foreign"])
    content = file.read_bytes()
    if kind == "truncate":
        file.write_bytes(content[: rng.randrange(len(content))])
    elif kind == "flip":
        at = rng.randrange(len(content))
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :])
    elif kind == "remove":
        file.unlink()
    elif kind == "empty":
        for path in files:
            path.unlink()
    elif kind == "version":
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    else:
        (folder / "learner.safetensors").write_bytes(b"PK\x03\x04 another program's file")


def test_a_hundred_corruptions_are_all_noticed_and_the_one_before_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    for step in (1, 2):
        save_checkpoint(source, make(step))
    rng = random.Random(0)
    served = []
    for i in range(100):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        before = {p.name: p.read_bytes() for p in (copy / "step-00000002").iterdir()}
        damage(copy / "step-00000002", rng)
        after = {p.name: p.read_bytes() for p in (copy / "step-00000002").iterdir()}
        assert before != after, f"the damage of round {i} changed nothing"
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="fastadapt"):
            found = latest_checkpoint(copy)
        same_facts = "manifest.json" in after and json_equal(before["manifest.json"], after["manifest.json"])
        only_manifest = {n for n in before if before.get(n) != after.get(n)} == {"manifest.json"}
        if only_manifest and same_facts:  # a flip in white space: nothing was lost
            continue
        assert found is not None
        served.append(found.step)
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert set(served) == {1}
    assert len(served) >= 99


def json_equal(a: bytes, b: bytes) -> bool:
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


def test_if_none_is_valid_the_run_does_not_start_afresh_in_silence(tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, make(1)) / "state.json").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        latest_checkpoint(tmp_path)


def test_no_checkpoint_at_all_is_a_fresh_start(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None


def test_pruning_keeps_the_newest_the_best_and_never_the_last_valid_one(tmp_path: Path) -> None:
    for step, score in ((1, 0.9), (2, 0.1), (3, None), (4, 0.2), (5, None)):
        save_checkpoint(tmp_path, make(step, score))
    (tmp_path / ".step-00000009.fastadapt.tmp").mkdir()
    prune(tmp_path, keep=2)
    assert [path.name for path in saved_steps(tmp_path)] == ["step-00000005", "step-00000004", "step-00000001"]
    assert not list(tmp_path.glob("*.tmp"))
    best = best_checkpoint(tmp_path)
    assert best is not None and best.step == 1
    (tmp_path / "step-00000005" / "learner.safetensors").write_bytes(b"")
    (tmp_path / "step-00000004" / "learner.safetensors").write_bytes(b"")
    prune(tmp_path, keep=1)
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1


def test_a_score_on_few_tasks_yields_to_one_on_all(tmp_path: Path) -> None:
    for step, score, tasks in ((1, 0.9, 2), (2, 0.5, None), (3, 0.4, None), (4, 0.8, 5)):
        checkpoint = make(step, score)
        if tasks is not None:
            checkpoint.state["score_tasks"] = tasks
        save_checkpoint(tmp_path, checkpoint)
    best = best_checkpoint(tmp_path)
    assert best is not None and best.step == 2
    prune(tmp_path, keep=1)
    assert [path.name for path in saved_steps(tmp_path)] == ["step-00000004", "step-00000002"]


def test_a_failed_write_names_the_folder_and_leaves_the_old_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(1))
    blocker = tmp_path / ".step-00000002.fastadapt.tmp"
    blocker.write_text("a file where the folder should go")
    with pytest.raises(CheckpointError, match="step-00000002"):
        save_checkpoint(tmp_path, make(2))
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1


class Counted(nn.Module):
    """Complex weights, and a state of its own beside them."""

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.randn(2, 1, dtype=torch.complex128)), {"batches": 0, "last": None}

    def forward(self, x):
        self.seen = {"batches": self.seen["batches"] + 1, "last": x.detach().mean()}
        return (x.to(self.w.dtype) @ self.w.mT).abs().sum(1, keepdim=True).to(x.dtype)

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_complex_weights_and_states_of_modules_are_kept_and_resumed_exactly(tmp_path, optimizer):
    def trained(folder, steps, seed=0):
        torch.manual_seed(seed)
        learner = MAML(Counted(), rule=SGD(0.01), route="loop")
        settings = Training(steps=steps, meta_batch=2, optimizer=optimizer, lr=0.01)
        meta_train(learner, Sinusoid(), settings, folder=folder, quiet=True)
        return learner

    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    resumed = trained(tmp_path / "parts", 4, seed=1)
    assert torch.equal(whole.model.w, resumed.model.w)
    held = latest_checkpoint(tmp_path / "parts" / "checkpoints").learner
    assert held["model.w"].dtype == torch.complex128 and torch.equal(held["model.w"], resumed.model.w)
    assert held["model._extra_state"]["batches"] == resumed.model.seen["batches"] > 0
