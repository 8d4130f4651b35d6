"""Launchers of others start the processes; `meta_train` finds the group that they made, and its numbers stay."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastadapt as fa

SCRIPT = Path(__file__).with_name("launched.py")
PLAIN = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCHERS = {
    "torchrun": (["torch.distributed.run", "--standalone", "--nproc-per-node", "2"], []),
    # --cpu starts a single process; this is its way to torch's launcher, with GPUs or without
    "accelerate": (["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *PLAIN], []),
    "fabric": ([], ["fabric"]),
}


@pytest.fixture(scope="module")
def alone():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01))
    fa.meta_train(learner, fa.Sinusoid(), fa.Training(steps=3, meta_batch=4), quiet=True)
    return learner.state_dict()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_starts_the_processes_that_train_as_one(name, alone, tmp_path):
    module, words = LAUNCHERS[name]
    if module:
        assert importlib.util.find_spec(module[0].partition(".")[0]), module
    start = [sys.executable, *(["-m", *module] if module else []), str(SCRIPT), str(tmp_path), *words]
    kept = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "NCCL_DEBUG": "WARN"}
    done = subprocess.run(start, env={**os.environ, **kept}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(tmp_path / "found.pt")
    assert found["world"] == 2
    for key, value in found["weights"].items():
        torch.testing.assert_close(value, alone[key], rtol=1e-5, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "found.pt", "metrics.jsonl"]
