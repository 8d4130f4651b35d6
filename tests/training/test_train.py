"""The outer loop: exact resume, the guard against numbers that are not finite, limits and signals."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Adam, Learner, Protocol, Reptile, Sinusoid, Task, Training, evaluate, meta_train
from fastadapt.errors import CheckpointError, ConfigError, DivergenceError
from fastadapt.tasks import draw

SETTINGS = Training(steps=12, meta_batch=4, checkpoint_every=3, log_every=4)


def learner(seed: int = 0, kind: str = "maml") -> Learner:
    torch.manual_seed(seed)
    net = nn.Sequential(MLP(1, (8,), 8, init_std=None), nn.Dropout(0.2), nn.Linear(8, 1))
    if kind == "maml":
        return MAML(net, rule=SGD(0.01))
    return Reptile(net, rule=Adam(0.01, beta1=0.0), steps=3, batch=5, inner_state="serial")


def digest(trained: nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in trained.state_dict().values())).hexdigest()


@pytest.mark.parametrize("kind", ["maml", "reptile"])
@pytest.mark.long
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(kind: str) -> None:
    found = []
    for seed in (0, 0, 0, 1):
        trained = learner(kind=kind)
        meta_train(trained, Sinusoid(), replace(SETTINGS, seed=seed), quiet=True)
        found.append(digest(trained))
    assert found[0] == found[1] == found[2] != found[3]


@pytest.mark.parametrize("kind", ["maml", "reptile"])
@pytest.mark.parametrize("cut", [1, 5, 6])
@pytest.mark.long
def test_a_run_in_two_lives_equals_one_in_one(tmp_path: Path, kind: str, cut: int) -> None:
    whole = learner(kind=kind)
    settings = replace(SETTINGS, schedule="linear")
    meta_train(whole, Sinusoid(), settings, folder=tmp_path / "whole", quiet=True)

    class Stop(Exception):
        pass

    calls = 0

    def interrupted(rng: np.random.Generator) -> Task:
        nonlocal calls
        calls += 1
        if calls > cut * settings.meta_batch:
            raise Stop
        return Sinusoid().sample(rng)

    with pytest.raises(Stop):
        meta_train(learner(kind=kind), interrupted, settings, folder=tmp_path / "cut", quiet=True)
    second = learner(seed=5, kind=kind)  # what it starts from does not matter
    trained = meta_train(second, Sinusoid(), settings, folder=tmp_path / "cut", quiet=True)
    assert trained.step == 12
    if cut >= settings.checkpoint_every:
        assert digest(second) == digest(whole)
        lines = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
        assert lines == [4, 8, 12]


def test_the_schedule_reaches_the_optimizer_whoever_built_it() -> None:
    trained = learner()
    mine = torch.optim.SGD([{"params": [p], "lr": 0.2 if i else 0.1} for i, p in enumerate(trained.parameters())])
    meta_train(
        trained, Sinusoid(), Training(steps=4, meta_batch=1, lr=1.0, schedule="linear"), optimizer=mine, quiet=True
    )
    assert [group["lr"] for group in mine.param_groups][:2] == pytest.approx([0.025, 0.05])


def test_the_rate_falls_in_steps_and_a_run_with_it_may_become_longer() -> None:
    settings = Training(steps=10, meta_batch=1, lr=0.8, schedule="step", decay_every=3)
    assert [settings.rate(step) for step in (0, 2, 3, 5, 6, 9)] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.1])
    assert replace(settings, decay=0.1).rate(3) == pytest.approx(0.08)
    saved = asdict(settings)
    assert replace(settings, steps=20).conflicts(saved) == []
    assert replace(settings, decay_every=4).conflicts(saved) == ["decay_every: 3 -> 4"]
    before = {name: value for name, value in asdict(SETTINGS).items() if not name.startswith("decay")}
    assert SETTINGS.conflicts(before) == []  # of a checkpoint from before there was this schedule
    for wrong in ({"schedule": "step"}, {"decay_every": 3}, {"schedule": "step", "decay_every": 3, "decay": 0.0}):
        with pytest.raises(ConfigError, match=r"needs training\.decay_every"):
            Training(**wrong)


def test_reptile_with_epsilon_one_and_one_task_lands_on_the_adapted_weights() -> None:
    net = MLP(1, (4,), 1, init_std=None)
    reptile = Reptile(net, rule=SGD(0.05), steps=3)
    task = Sinusoid(queries=0).sample(np.random.default_rng(0))
    expected = reptile.adapt(task.support).model.state_dict()
    meta_train(reptile, lambda rng: task, Training(steps=1, meta_batch=1, optimizer="sgd", lr=1.0), quiet=True)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def poisoned(bad: set[int], what: float = float("nan")):
    """Return a source whose tasks number `bad` hold a value that is not finite."""
    drawn = draw(Sinusoid(), seed=SETTINGS.seed, split="train", indices=sorted(bad))
    known = {float(task.support[0][0]) for task in drawn}

    def sample(rng: np.random.Generator) -> Task:
        task = Sinusoid().sample(rng)
        if float(task.support[0][0]) in known:
            task.support[1][0] = what
        return task

    return sample


@pytest.mark.parametrize("kind", ["maml", "reptile"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped_and_counted(kind: str, value: float) -> None:
    trained = learner(kind=kind)
    result = meta_train(trained, poisoned({5, 9}, value), SETTINGS, quiet=True)
    assert result.skipped == 2
    assert result.step == 12
    assert all(torch.isfinite(v).all() for v in trained.state_dict().values())


def test_after_ten_in_a_row_it_stops_and_names_the_task(tmp_path: Path) -> None:
    trained = learner()
    bad = {4 * step + 2 for step in range(7, 40)}
    with pytest.raises(DivergenceError, match=r"10 steps in a row, .* task 66, support y, row 0: nan, of .*step 7"):
        meta_train(trained, poisoned(bad), replace(SETTINGS, steps=40), folder=tmp_path, quiet=True)
    assert all(torch.isfinite(v).all() for v in trained.state_dict().values())
    assert (tmp_path / "checkpoints" / "step-00000017").is_dir()
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["not finite"] for r in kept if "not finite" in r] == [[4 * step + 2] for step in range(7, 17)]


def test_a_gradient_that_is_not_finite_is_blamed_on_its_task() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.w * x + (self.w * (x > 6)).relu().sub((self.w * (x > 6)).relu().detach()).abs().sqrt()

    def sample(rng: np.random.Generator) -> Task:
        x = torch.full((2, 1), 7.0) if rng.random() < 0.5 else torch.zeros(2, 1)
        return Task((torch.zeros(2, 1), torch.zeros(2, 1)), (x, x))

    with pytest.raises(DivergenceError, match="the gradient was not finite for 2 steps in a row, last in task"):
        meta_train(MAML(Root()), sample, Training(steps=50, meta_batch=8, max_nonfinite=2), quiet=True)


def test_a_time_limit_stops_with_a_checkpoint(tmp_path: Path) -> None:
    settings = Training(steps=10**6, meta_batch=4, minutes=0.02, log_every=1000)
    result = meta_train(learner(), Sinusoid(), settings, folder=tmp_path, quiet=True)
    assert result.stopped == "time limit"
    assert (tmp_path / "checkpoints" / f"step-{result.step:08d}").is_dir()


def test_validation_marks_the_best_checkpoint(tmp_path: Path) -> None:
    from fastadapt.training.checkpoint import best_checkpoint

    settings = replace(SETTINGS, steps=40, validate_every=10, keep=1)
    protocol = Protocol(tasks=20, split="val", steps=4, report=2)
    trained = learner()
    meta_train(
        trained,
        Sinusoid(),
        settings,
        validation=Sinusoid(),
        protocol=protocol,
        folder=tmp_path,
        quiet=True,
    )
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = {r["step"]: r["val mse"] for r in records if "val mse" in r}
    best = best_checkpoint(tmp_path / "checkpoints")
    assert best is not None and best.step == min(scores, key=lambda step: scores[step])
    trained.load_state_dict(best.learner)
    assert scores[best.step] == pytest.approx(evaluate(trained, Sinusoid(), protocol).mean[2])


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="validation source"):
        meta_train(learner(), Sinusoid(), Training(validate_every=5), quiet=True)
    with pytest.raises(ConfigError, match=r"training\.steps must be at least 1, got 0"):
        Training(steps=0)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    meta_train(MAML(MLP(1, (8,), 1)), Sinusoid(), SETTINGS, folder=tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match="does not fit this learner"):
        meta_train(MAML(MLP(1, (9,), 1)), Sinusoid(), SETTINGS, folder=tmp_path, quiet=True)


SCRIPT = """
import hashlib, sys, torch
torch.set_num_threads(1)
from fastadapt import MLP, MAML, SGD, Sinusoid, Training, meta_train
torch.manual_seed(0)
learner = MAML(MLP(1, (16,), 1, init_std=None), rule=SGD(0.01))
settings = Training(steps=int(sys.argv[2]), meta_batch=4, checkpoint_every=1, log_every=5)
result = meta_train(learner, Sinusoid(), settings, folder=sys.argv[1], quiet=True)
print(result.stopped, hashlib.sha256(b"".join(v.numpy().tobytes() for v in learner.state_dict().values())).hexdigest())
"""


def life(folder: Path, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(steps)], stdout=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str], seconds: float = 240) -> str:
    with process:
        return process.communicate(timeout=seconds)[0]


def killed_and_resumed(tmp_path: Path, steps: int, kills: int, seed: int) -> None:
    whole = output(life(tmp_path / "whole", steps)).split()[1]
    rng = np.random.default_rng(seed)
    folder = tmp_path / "cut"
    done = 0
    for _ in range(kills):
        process = life(folder, steps)
        target = done + int(rng.integers(1, max(2, steps // kills)))
        while process.poll() is None and newest(folder) < target:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.02)))
        before = newest(folder)
        process.kill()
        output(process)
        assert newest(folder) >= before  # at most the interval being written is lost
        done = newest(folder)
    assert output(life(folder, steps)).split()[1] == whole


def newest(folder: Path) -> int:
    names = [p.name for p in (folder / "checkpoints").glob("step-*") if not p.name.endswith(".tmp")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


@pytest.mark.long
def test_killed_with_nine_and_resumed_it_has_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, steps=100, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_kills(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, steps=1500, kills=50, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_checkpoints_and_leaves_at_once(tmp_path: Path, number: int) -> None:
    process = life(tmp_path, 10**4)  # of more steps, programs would be compiled
    while newest(tmp_path) < 3:
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(process.pid, number)
    out = output(process, seconds=10)
    assert time.monotonic() - began < 10
    assert out.split()[0] == signal.Signals(number).name


def test_a_longer_run_may_go_on_but_another_one_may_not(tmp_path: Path) -> None:
    whole = learner()
    meta_train(whole, Sinusoid(), SETTINGS, quiet=True)
    meta_train(learner(), Sinusoid(), replace(SETTINGS, steps=6), folder=tmp_path, quiet=True)
    second = learner(seed=3)
    meta_train(second, Sinusoid(), replace(SETTINGS, keep=9), folder=tmp_path, quiet=True)
    assert digest(second) == digest(whole)
    with pytest.raises(CheckpointError, match=r"meta_batch: 4 -> 5"):
        meta_train(learner(), Sinusoid(), replace(SETTINGS, meta_batch=5), folder=tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"steps: 12 -> 20; schedule"):
        linear = replace(SETTINGS, steps=20, schedule="linear")
        meta_train(learner(), Sinusoid(), linear, folder=tmp_path, quiet=True)


def test_a_run_does_not_go_on_with_another_learner(tmp_path: Path) -> None:
    net = MLP(1, (4,), 1, init_std=None)
    settings = replace(SETTINGS, steps=3)
    meta_train(MAML(net, rule=SGD(0.01)), Sinusoid(), settings, folder=tmp_path, quiet=True)
    other = MAML(net, rule=SGD(0.5), meta_gradient="first_order")
    with pytest.raises(
        CheckpointError, match=r"meta_gradient: exact -> first_order; rule: SGD\(lr=0.01\) -> SGD\(lr=0.5\)"
    ):
        meta_train(other, Sinusoid(), replace(settings, steps=6), folder=tmp_path, quiet=True)


def test_an_optimizer_that_is_passed_again_keeps_its_own_rate(tmp_path: Path) -> None:
    trained = learner()
    mine = torch.optim.SGD(trained.parameters(), lr=1.0)
    drawn = 0

    def stop(rng: np.random.Generator) -> Task:
        nonlocal drawn
        drawn += 1
        if drawn == 3:
            raise KeyboardInterrupt
        return Sinusoid().sample(rng)

    settings = Training(steps=4, meta_batch=1, lr=1.0, schedule="linear", checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        meta_train(trained, stop, settings, optimizer=mine, folder=tmp_path, quiet=True)
    meta_train(trained, stop, settings, optimizer=mine, folder=tmp_path, quiet=True)
    assert mine.param_groups[0]["lr"] == pytest.approx(0.25)  # 1 - 3/4, not scaled a second time


def test_the_last_weights_are_validated_even_where_a_checkpoint_is_due(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=6, validate_every=4, checkpoint_every=3)
    meta_train(learner(), Sinusoid(), settings, validation=Sinusoid(), folder=tmp_path, quiet=True)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "val mse" in r] == [4, 6]


def test_a_signal_does_not_wait_for_a_validation(tmp_path: Path) -> None:
    count = 0

    def slow(rng: np.random.Generator) -> Task:
        nonlocal count
        count += 1
        if count == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return Sinusoid().sample(rng)

    settings = replace(SETTINGS, validate_every=2)
    many = Protocol(tasks=10**6, split="val")
    result = meta_train(learner(), Sinusoid(), settings, validation=slow, protocol=many, folder=tmp_path, quiet=True)
    assert (result.stopped, result.step) == ("SIGTERM", 2)
    assert (tmp_path / "checkpoints" / "step-00000002").is_dir()


def test_the_logged_gradient_is_the_one_before_clipping() -> None:
    settings = Training(steps=1, meta_batch=4, clip_norm=1e-3)
    [record] = meta_train(learner(), Sinusoid(), settings, quiet=True).records
    assert record["gradient"] > 0.1
