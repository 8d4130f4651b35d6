"""What launchers start in each process: a short training, whose weights the first process saves.

launched.py FOLDER          under torchrun, accelerate launch, srun
launched.py FOLDER fabric   starts its own processes by Lightning Fabric
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import fastadapt as fa


def train(folder: Path) -> None:
    """Meta-train with whoever is there."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01))
    fa.meta_train(learner, fa.Sinusoid(), fa.Training(steps=3, meta_batch=4), folder=folder, quiet=True)
    if not dist.is_initialized() or dist.get_rank() == 0:
        found = {"weights": learner.state_dict(), "world": dist.get_world_size() if dist.is_initialized() else 1}
        torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2:] == ["fabric"]:
        from lightning.fabric import Fabric

        Fabric(accelerator="cpu", devices=2, strategy="ddp").launch()
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    train(place)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
