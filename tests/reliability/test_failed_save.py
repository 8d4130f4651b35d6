"""Where the first process can't write a checkpoint all processes end, with its sentence and without waiting.

python test_failed_save.py RANK FOLDER SHARDING      is one of two processes
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import fastadapt as fa
from fastadapt.data.sinusoid import Sinusoid

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed"),
]


def process(rank, folder, sharding):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01))
    run = folder / "run"

    def sample(rng):
        checkpoints = run / "checkpoints"
        if checkpoints.is_dir():  # the run has begun: from now on nothing can be written there
            checkpoints.rename(folder / "gone")
            checkpoints.write_text("", encoding="utf-8")
        return Sinusoid().sample(rng)

    training = fa.Training(steps=50, meta_batch=2, checkpoint_every=2)
    try:
        fa.meta_train(learner, sample if rank == 0 else Sinusoid(), training, folder=run, sharding=sharding, quiet=True)
    except fa.FastadaptError as error:
        (folder / f"{rank}.json").write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
        os._exit(3)
    os._exit(0)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_checkpoint_that_the_first_process_can_not_write_ends_all(tmp_path, sharding):
    command = [sys.executable, __file__]
    running = [subprocess.Popen([*command, str(rank), str(tmp_path), sharding]) for rank in (0, 1)]
    assert running[0].wait(timeout=250) == 3
    assert running[1].wait(timeout=60) == 3
    (kind, sentence), (other, told) = (json.loads((tmp_path / f"{r}.json").read_text(encoding="utf-8")) for r in (0, 1))
    assert kind == "CheckpointError" and "could not write" in sentence and "run/checkpoints" in sentence
    assert (other, told) == ("RankError", f"process 0 of 2 ended: {sentence}")
    assert (tmp_path / "gone" / "step-00000002" / "manifest.json").is_file()


if __name__ == "__main__":
    process(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
