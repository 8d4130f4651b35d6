"""How soon the first outer step, and a first evaluation, of "auto" are done, each in a process of its own.

    python benchmarks/first_step.py            # all, about five minutes; writes the result file
    python benchmarks/first_step.py --only unet

The first step of a training runs in the loop, at once; strategies are looked at in the second, which is timed here
without compiling. The estimates by which the rule decides whether compiling pays stand beside the measured times.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from routes import Transformer, classes
from torch import nn

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.engine import engine as engine_module
from fastadapt.engine import rule
from fastadapt.runs.presets import PRESETS
from fastadapt.tasks import draw_batch

OUT = Path(__file__).parent / "results" / "first_step.json"
AHEAD = 60_000
STARTS = ("maml", "fomaml", "anil", "reptile", "pretrain")


class Residual(nn.Module):
    """Add two 3x3 convolutions to a shortcut."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        short = (nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.short = nn.Identity() if before == after else nn.Sequential(*short)

    def forward(self, x):
        """Return the sum."""
        return torch.relu(self.second(self.first(x)) + self.short(x))


def resnet18(ways=5):
    widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2))
    stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks = (Residual(*width) for width in (*widths, (512, 512, 1)))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, ways))


class UNet(nn.Module):
    """Say of every pixel what it is."""

    def __init__(self, width=16, kinds=3):
        super().__init__()

        def twice(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())

        self.down, self.deep, self.up = twice(1, width), twice(width, 2 * width), twice(2 * width, width)
        self.rise, self.head = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(width, kinds, 1)

    def forward(self, x):
        """Return logits of each pixel."""
        high = self.down(x)
        low = self.deep(nn.functional.max_pool2d(high, 2))
        return self.head(self.up(torch.cat([high, self.rise(low)], 1)))


class Reader(nn.Module):
    """Read a sequence in both directions."""

    def __init__(self, width=16):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, width, batch_first=True, bidirectional=True), nn.Linear(2 * width, 5)

    def forward(self, x):
        """Return five logits."""
        return self.head(self.lstm(x)[0].mean(1))


def pixels(count):
    def batch(n):
        return torch.randn(n, 1, 32, 32), torch.randint(0, 3, (n, 32, 32))

    return fa.group_by_shape([fa.Task(batch(4), batch(4)) for _ in range(count)])


OWN = {
    "resnet18": (resnet18, lambda: classes(5, 5, (3, 64, 64), 4)),
    "unet": (UNet, lambda: pixels(8)),
    "bidirectional lstm": (Reader, lambda: classes(5, 10, (12, 8), 8)),
    "transformer": (lambda: Transformer(32, 2), lambda: classes(5, 10, (16, 8), 8)),
}


def prepared(name):
    """Return a function that makes the learner, and tasks."""
    torch.manual_seed(0)
    if name in OWN:
        net, tasks = OWN[name]
        return lambda route: fa.MAML(net(), fa.cross_entropy, rule=fa.SGD(0.05), steps=5, route=route), tasks()
    _, config = PRESETS[name]
    source = config.data.source("train", config.data.load(None, False))
    drawn = draw_batch(source, seed=0, split="train", indices=range(config.training.meta_batch))

    def make(route):
        learner = config.build()
        if hasattr(learner, "engine"):
            learner.engine = type(learner.engine)(route)
        return learner

    return make, drawn


def step(learner, tasks):
    learner(tasks).loss.backward()


def seconds(work):
    began = time.perf_counter()
    result = work()
    return round(time.perf_counter() - began, 2), result


def one(name):
    """Return the seconds of a first step, of the second with its look at vmap, and of a first evaluation."""
    make, tasks = prepared(name)
    learner, found = make("auto"), {}
    if not hasattr(learner, "engine"):
        return {"first step": seconds(lambda: step(learner, tasks))[0]}
    learner.engine.at_once = True
    found["first step"], _ = seconds(lambda: step(learner, tasks))
    found["step in the loop"], _ = seconds(lambda: step(learner, tasks))
    eager = fa.Execution(compile="off")
    for when in ("second step", "second step of the next process"):
        learner = make(eager)
        learner.engine.expect(AHEAD)
        found[when], _ = seconds(lambda learner=learner: step(learner, tasks))
    if learner.engine.plans:
        found["strategy"] = next(iter(learner.engine.plans.values())).strategy
        found["step by it"], _ = seconds(lambda: step(learner, tasks))
        found |= estimated(make, tasks, found["strategy"])
    with contextlib.suppress(fa.FastadaptError):  # no queries
        found["first evaluation"], _ = seconds(lambda: make("auto").trace(tasks))
    return found


def estimated(make, tasks, strategy):
    """Return what the rule takes a step to take, and what it does in a training of `AHEAD` steps."""
    learner, counted = make("auto"), []
    real = rule.programs_pay

    def noted(work, count, eager, faster, calls, limit):
        pays = real(work, count, eager, faster, calls, limit)
        counted.append((work, count, faster, pays))
        return False

    engine_module.programs_pay = noted
    learner.engine.expect(AHEAD)
    learner(tasks)
    engine_module.programs_pay = real
    if not counted:
        return {}
    work, count, faster, pays = counted[0]
    estimate = round(rule.eager_seconds(work, count, strategy), 3)
    facts = {"operations of a task": work.operations, "arithmetic of a task": work.arithmetic}
    return {"step as estimated": estimate, f"for {AHEAD} steps": faster if pays else strategy, **facts}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--one")
    wanted = parser.parse_args()
    if wanted.one:
        print(json.dumps(one(wanted.one)))
        return
    rows = {}
    for name in wanted.only or [*OWN, *(name for name in PRESETS if name.startswith(STARTS))]:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, "--one", name]
            place = {**os.environ, "FASTADAPT_CACHE": cache}
            done = subprocess.run(command, env=place, capture_output=True, text=True, timeout=600, check=False)
        failed = {"failed": done.stderr.splitlines()[-1:]}
        rows[name] = failed if done.returncode else json.loads(done.stdout.splitlines()[-1])
        print(name, rows[name], flush=True)
    if not wanted.only:
        facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.processor()}
        written = {"command": "python benchmarks/first_step.py", **facts, "rows": rows}
        write_text(OUT, json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
