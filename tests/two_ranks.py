"""One of the processes of `training/test_sharded.py`: meta-trains with the others and saves what came out.

python two_ranks.py RANK WORLD FOLDER CASE [CASE ...]
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import fastadapt as fa
from fastadapt.errors import FastadaptError
from fastadapt.methods import FOML, ProtoNet
from fastadapt.ranks import Ranks
from fastadapt.rules.rates import learned_rates


def net() -> nn.Module:
    """Return a network with batch norm and a frozen parameter."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double()
    made[3].bias.requires_grad_(False)
    return made


class Waves:
    """Draw tasks in float64; ragged ones have supports of 3, 4 or 5 samples."""

    def __init__(self, ragged: bool = False, classes: bool = False, broken: int | None = None) -> None:
        self.ragged, self.classes, self.broken = ragged, classes, broken
        self.drawn = 0

    def sample(self, rng):
        def batch(n):
            x = torch.as_tensor(rng.normal(size=(n, 3)))
            y = torch.arange(n) % 2 if self.classes else torch.as_tensor(rng.normal(size=(n, 2)))
            return x, y

        self.drawn += 1
        if self.broken is not None and self.drawn > self.broken:
            raise fa.FastadaptError("the tasks are used up; make more")
        n = 3 + int(rng.integers(3)) if self.ragged else 4
        return fa.Task(batch(n + n % 2 if self.classes else n), batch(6))


CASES = {
    "maml": lambda: fa.MAML(net(), rule=fa.SGD(0.1), steps=2),
    "first order": lambda: fa.MAML(net(), rule=fa.SGD(0.1), steps=2, meta_gradient="first_order"),
    "anil": lambda: fa.MAML(net(), rule=fa.SGD(0.1), steps=2, adapt="head", route="loop"),
    "reptile": lambda: fa.Reptile(net(), rule=fa.Adam(0.01), steps=3),
    "foml": lambda: FOML(net(), rule=fa.SGD(0.1), steps=3),
    "running": lambda: fa.MAML(net(), rule=fa.SGD(0.1), steps=2, norm="running"),
    "learned rates": lambda: fa.MAML(net(), rule=fa.SGD(learned_rates(net(), 0.1)), steps=2),
    "ragged": lambda: fa.MAML(net(), rule=fa.SGD(0.1), steps=2),
    "protonet": lambda: ProtoNet(net()),
}
IN_PARTS = ("maml", "reptile", "running", "ragged", "learned rates", "protonet")
CASES |= {f"{case} in parts": CASES[case] for case in IN_PARTS}
"""Those whose gradients are sent in parts, while the next is computed."""


def train(case: str, folder: Path | None, ranks: Ranks) -> dict:
    """Return the weights after four outer steps by SGD of five tasks each, what was logged, and an evaluation."""
    learner = CASES[case]()
    classes, overlap = case.startswith("protonet"), 2 if case.endswith("in parts") else 1
    training = fa.Training(
        steps=4,
        meta_batch=5,
        optimizer="sgd",
        lr=0.05,
        validate_every=2,
        log_every=1,
        checkpoint_every=2,
        overlap=overlap,
    )
    validation = Waves(classes=classes)
    trained = fa.meta_train(
        learner, Waves(case.startswith("ragged"), classes), training, validation=validation, folder=folder, quiet=True
    )
    result = fa.evaluate(learner, validation, fa.Protocol(tasks=60), meta_batch=7, ranks=ranks)
    records = [{k: v for k, v in r.items() if k not in ("seconds", "tasks/s")} for r in trained.records]
    return {"state": learner.state_dict(), "records": records, "tested": result.per_task}


def main() -> None:
    """Read the command line and run."""
    rank, world, folder, cases = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    ranks = Ranks.found()
    if cases == ["broken"]:
        source = Waves(broken=4 if rank == 1 else None)
        try:
            fa.meta_train(CASES["maml"](), source, fa.Training(steps=50, meta_batch=2), quiet=True)
        except FastadaptError as error:
            (folder / f"{rank}.json").write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
            os._exit(3)
    elif cases == ["killed"]:

        class Killed(Waves):
            def sample(self, rng):
                if rank == 1 and self.drawn == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().sample(rng)

        try:
            fa.meta_train(CASES["maml"](), Killed(), fa.Training(steps=50, meta_batch=2), quiet=True)
        except FastadaptError as error:
            (folder / f"{rank}.json").write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
            os._exit(3)
    else:
        torch.save({case: train(case, folder / case, ranks) for case in cases}, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
