"""Memory does not grow with the outer steps, nor with the runs of one process."""

import gc
from pathlib import Path

import pytest
import torch

import fastadapt as fa
from fastadapt.data.sinusoid import Sinusoid

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc"),
]


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def trained(steps, route):
    torch.manual_seed(0)
    learner = fa.MAML(fa.MLP(1, (40, 40), 1), rule=fa.SGD(0.01), steps=2, route=route)
    fa.meta_train(learner, Sinusoid(), fa.Training(steps=steps, meta_batch=4, log_every=1000), quiet=True)


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_memory_grows_by_less_than_a_megabyte_in_a_thousand_steps(route):
    seen = []

    class Watched:
        def __init__(self):
            self.source, self.batches = Sinusoid(), 0

        def sample(self, rng):
            self.batches += 1
            if self.batches % 4000 == 0:
                seen.append(resident())
            return self.source.sample(rng)

    learner = fa.MAML(fa.MLP(1, (40, 40), 1), rule=fa.SGD(0.01), steps=2, route=route)
    fa.meta_train(learner, Watched(), fa.Training(steps=10_000, meta_batch=4, log_every=1000), quiet=True)
    after_warmth = seen[2:]
    assert (after_warmth[-1] - after_warmth[0]) / (len(after_warmth) - 1) < 1.0, seen


def test_one_run_after_another_keeps_no_memory_of_them():
    trained(50, "auto")
    trained(50, "auto")
    before = resident()
    for _ in range(10):
        trained(50, "auto")
    assert resident() - before < 20
