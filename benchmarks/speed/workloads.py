"""What is measured, as data: networks, task shapes, methods."""

import dataclasses
import importlib.util
from dataclasses import dataclass, field
from typing import Any, Literal

SWEEP_PEERS = ("fastadapt", "fastadapt-eager", "plain", "learn2learn")


@dataclass(frozen=True)
class Workload:
    """Describe one outer step: the meta-gradient of a meta-batch, then Adam.

    Args:
        title: what a table calls it.
        net: "mlp", "conv4", "resnet12" or "transformer".
        net_settings: the arguments of the network's class.
        inputs: the shape of one sample.
        support: support samples of a task.
        query: query samples of a task.
        tasks: tasks of the meta-batch.
        steps: inner steps k.
        lr: the inner rate.
        ways: classes, 0 for regression.
        method: "maml", or "reptile" with Adam(beta1=0) inside and the whole support set in each step.
        first_order: take the inner gradients as constants.
        only: the peers that run it; empty for all.
        without: variants that can't run it, each with the reason.
        ignored: a regular expression of parameters left out of the comparison of gradients.
        tolerance: how far a task's gradient may be off beyond ten times the error of plain float32.
        group: "main", or the sweep it is a point of.
        minutes: when to stop repeating.
    """

    title: str
    net: Literal["mlp", "conv4", "resnet12", "transformer"]
    net_settings: dict[str, Any]
    inputs: tuple[int, ...]
    support: int
    query: int
    tasks: int
    steps: int
    lr: float
    ways: int = 5
    method: Literal["maml", "reptile"] = "maml"
    first_order: bool = False
    only: tuple[str, ...] = ()
    without: dict[str, str] = field(default_factory=dict)
    ignored: str = ""
    tolerance: float = 1e-4
    group: str = "main"
    minutes: float = 6.0

    def spec(self, dtype: str, learner: dict[str, Any]) -> dict[str, Any]:
        """Return what a worker is told, as JSON."""
        loss = "cross_entropy" if self.ways else "mse"
        return {**dataclasses.asdict(self), "loss": loss, "outer_lr": 1e-3, "dtype": dtype, "learner": learner}

    def missing(self) -> str:
        """Return why this clone can't run it, or nothing."""
        if self.net == "resnet12" and importlib.util.find_spec("fastadapt.nets.resnet12") is None:
            return "fastadapt.nets.resnet12 is not in this clone"
        return ""


_OMNIGLOT: dict[str, Any] = {
    "net": "conv4",
    "net_settings": {"channels": 1, "width": 64, "ways": 5, "down": "max", "pooled": "flatten", "affine": "both"},
    "inputs": (1, 28, 28),
    "support": 5,
}
_SINE: dict[str, Any] = {
    "net": "mlp",
    "net_settings": {"inputs": 1, "hidden": (40, 40), "outputs": 1, "init_std": None},
    "inputs": (1,),
    "support": 10,
    "query": 10,
    "lr": 0.01,
    "ways": 0,
}


_OWN_CONVOLUTION = {
    "jax-map-conv": "XLA's own convolution takes a multiple of the patches' time on a CPU: see k = 1, 1 query"
}


def _main() -> dict[str, Workload]:
    found = {f"sinusoid-k{k}": Workload(f"sinusoid MLP, 25 tasks, k = {k}", **_SINE, tasks=25, steps=k) for k in (1, 5)}
    for k in (1, 5):
        for shots in (1, 15):
            for kind in ("exact", "first-order"):
                title = f"Conv4-64, 28x28, 5-way 1-shot, {shots} queries a class, 32 tasks, k = {k}, {kind}"
                found[f"omniglot-k{k}-q{shots}-{kind}"] = Workload(
                    title.replace("1 queries", "1 query"),
                    **_OMNIGLOT,
                    query=5 * shots,
                    tasks=32,
                    steps=k,
                    lr=0.4,
                    first_order=kind == "first-order",
                    without=_OWN_CONVOLUTION if (k, shots) != (1, 1) else {},
                )
    found["mini-imagenet-k5"] = Workload(
        "Conv4-32, 84x84, 5-way 5-shot, 15 queries a class, 4 tasks, k = 5, exact",
        "conv4",
        {**_OMNIGLOT["net_settings"], "channels": 3, "width": 32, "size": 84},
        (3, 84, 84),
        support=25,
        query=75,
        tasks=4,
        steps=5,
        lr=0.01,
        without=_OWN_CONVOLUTION,
        minutes=10.0,
    )
    found["resnet12-k1"] = Workload(
        "ResNet-12, 84x84, 5-way 1-shot, 5 queries, 2 tasks, k = 1, exact",
        "resnet12",
        {"channels": 3, "ways": 5},
        (3, 84, 84),
        support=5,
        query=5,
        tasks=2,
        steps=1,
        lr=0.01,
        minutes=10.0,
    )
    found["reptile-omniglot"] = Workload(
        "Reptile, Conv4-64, 28x28, minibatches of 10, 5 tasks, 5 inner Adam steps",
        **{**_OMNIGLOT, "support": 10},
        query=5,
        tasks=5,
        steps=5,
        lr=1e-3,
        method="reptile",
        # a bias before a batch norm has a zero gradient: Adam turns its rounding error into whole steps
        ignored=r"blocks\.\d\.0\.bias",
        # Adam's eps is added before or after the bias correction; both forms are in use
        tolerance=1e-2,
    )
    return found


def _sweeps() -> dict[str, Workload]:
    found = {}
    for k in (1, 2, 5, 10, 20, 50):
        found[f"steps-{k}"] = Workload(
            f"Conv4-64, 5-way 1-shot, 1 query a class, 4 tasks, k = {k}",
            **_OMNIGLOT,
            query=5,
            tasks=4,
            steps=k,
            lr=0.01,
            only=SWEEP_PEERS,
            group="steps",
            minutes=2.0,
        )
    for tasks in (1, 4, 16, 64, 256):
        found[f"tasks-sinusoid-{tasks}"] = Workload(
            f"sinusoid MLP, k = 1, tasks: {tasks}",
            **_SINE,
            tasks=tasks,
            steps=1,
            only=SWEEP_PEERS,
            group="tasks-sinusoid",
            minutes=1.0,
        )
    for tasks in (1, 4, 16, 64):
        found[f"tasks-omniglot-{tasks}"] = Workload(
            f"Conv4-64, 5-way 1-shot, 1 query a class, k = 1, tasks: {tasks}",
            **_OMNIGLOT,
            query=5,
            tasks=tasks,
            steps=1,
            lr=0.4,
            only=SWEEP_PEERS,
            group="tasks-omniglot",
            minutes=2.0,
        )
    return found


WORKLOADS: dict[str, Workload] = {**_main(), **_sweeps()}


def chosen(names: list[str]) -> dict[str, Workload]:
    """Return the workloads of `names`: their own names, groups, "sweeps" or "all".

    Raises:
        SystemExit: for a name that is none of these.
    """
    found: dict[str, Workload] = {}
    for name in names:
        some = {
            key: w
            for key, w in WORKLOADS.items()
            if name in (key, w.group, "all") or (name == "sweeps" and w.group != "main")
        }
        if not some:
            groups = sorted({w.group for w in WORKLOADS.values()})
            raise SystemExit(f"no workload {name!r}; choose from {', '.join([*WORKLOADS, *groups, 'sweeps', 'all'])}")
        found |= some
    return found
