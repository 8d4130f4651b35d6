"""What is measured on a GPU, and the ways to compute it: plain autograd, ours by strategy, JAX."""

import dataclasses
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import inputs
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from workloads import WORKLOADS, Workload

sys.path.insert(0, str(Path(__file__).parent / "workers"))
from on_torch import network

import fastadapt as fa
from fastadapt.engine.graph import Uncapturable
from fastadapt.layers.forms import forced
from fastadapt.training.captured import captured_where_it_can_be
from fastadapt.training.outer_step import outer_step

_SEQUENCES = Workload(
    "transformer of 4 layers, width 128, 32 tokens, 5-way 5-shot, 8 tasks, k = 1, exact",
    "transformer",
    {"features": 16, "width": 128, "heads": 4, "depth": 4, "ways": 5},
    (32, 16),
    support=25,
    query=25,
    tasks=8,
    steps=1,
    lr=0.01,
)
GPU_WORKLOADS: dict[str, Workload] = {
    **{name: w for name, w in WORKLOADS.items() if w.group == "main"},
    **{
        f"transformer-k{k}": dataclasses.replace(
            _SEQUENCES, steps=k, title=_SEQUENCES.title.replace("k = 1", f"k = {k}")
        )
        for k in (1, 5, 20)
    },
}


def tiny(workload: Workload) -> Workload:
    """Return the workload at a size that a CPU computes in a moment, to run the whole path there."""
    narrow: dict[str, dict[str, Any]] = {
        "conv4": {"width": 4},
        "resnet12": {"widths": (4, 4, 4, 4)},
        "transformer": {"width": 8, "heads": 2, "depth": 1},
    }
    return dataclasses.replace(
        workload,
        net_settings={**workload.net_settings, **narrow.get(workload.net, {})},
        tasks=min(workload.tasks, 2),
        steps=min(workload.steps, 2),
        support=min(workload.support, 5),
        query=min(workload.query, 5),
    )


class Way:
    """Compute the meta-gradient of a workload, and outer steps with Adam."""

    def __init__(self, workload: Workload, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        arrays = inputs.arrays(workload)
        self.workload, self.device = workload, device
        self.net = network(workload.net, workload.net_settings).to(dtype)
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                p.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
        self.net.to(device)
        parts = [torch.from_numpy(arrays[name]) for name in ("support_x", "support_y", "query_x", "query_y")]
        self.parts = [(part.to(dtype) if part.is_floating_point() else part).to(device) for part in parts]

    def gradient(self) -> dict[str, Tensor]:
        """Return the meta-gradient by the parameters' names, in float64 on the CPU."""
        self.net.zero_grad()
        self.meta_gradient()
        grads = {name: p.grad for name, p in self.net.named_parameters() if p.grad is not None}
        return {name: grad.detach().double().cpu() for name, grad in grads.items()}

    def meta_gradient(self) -> None:
        """Add the meta-gradient to `.grad`."""
        raise NotImplementedError

    def step(self) -> None:
        """Make one outer step."""
        raise NotImplementedError


class Plain(Way):
    """The loop people write with `autograd.grad(create_graph=True)`."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.loss: Any = F.cross_entropy if self.workload.ways else F.mse_loss

    def meta_gradient(self) -> None:
        """Add the meta-gradient to `.grad`, task by task, with the attention that has a second derivative."""
        with sdpa_kernel(SDPBackend.MATH):
            self._added()

    def _added(self) -> None:
        w, start = self.workload, dict(self.net.named_parameters())
        for x, y, xq, yq in zip(*self.parts, strict=True):
            params, moments = start, {name: torch.zeros_like(p) for name, p in start.items()}
            for step in range(w.steps):
                loss = self.loss(functional_call(self.net, params, (x,)), y)
                exact = w.method == "maml" and not w.first_order
                grads = torch.autograd.grad(loss, list(params.values()), create_graph=exact)
                if w.method == "reptile":
                    params = self._adam(params, dict(zip(params, grads, strict=True)), moments, step + 1)
                else:
                    params = {n: p - w.lr * g for (n, p), g in zip(params.items(), grads, strict=True)}
            if w.method == "reptile":
                with torch.no_grad():
                    for name, p in start.items():
                        moved = (p - params[name]) / w.tasks
                        p.grad = moved if p.grad is None else p.grad + moved
            else:
                (self.loss(functional_call(self.net, params, (xq,)), yq) / w.tasks).backward()

    def _adam(self, params: Any, grads: Any, moments: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        found = {}
        with torch.no_grad():
            for name, p in params.items():
                moments[name] = 0.999 * moments[name] + 0.001 * grads[name] ** 2
                root = (moments[name] / (1 - 0.999**step)).sqrt()
                found[name] = (p - self.workload.lr * grads[name] / (root + 1e-8)).requires_grad_()
        return found

    def step(self) -> None:
        """Make one outer step."""
        self.optimizer.zero_grad()
        self.meta_gradient()
        self.optimizer.step()


class Ours(Way):
    """A learner of this library, with the outer step that a training takes."""

    def __init__(self, workload: Workload, device: torch.device, strategy: str, precision: str = "float32") -> None:
        super().__init__(workload, device)
        loss: Any = fa.CrossEntropy() if workload.ways else fa.mse
        settings: dict[str, Any] = {"steps": workload.steps}
        if workload.method == "reptile":
            build, settings["rule"], settings["batch"] = fa.Reptile, fa.Adam(workload.lr, beta1=0.0), None
        else:
            build, settings["rule"] = fa.MAML, fa.SGD(workload.lr)
            settings["meta_gradient"] = "first_order" if workload.first_order else "exact"
        self.learner: Any = on_strategy(
            lambda route: build(self.net, loss, route=route, **settings), strategy, precision
        )
        self.tasks = fa.Tasks(tuple(self.parts[:2]), tuple(self.parts[2:]))
        self.training = fa.Training(lr=1e-3)
        self.optimizer = self.training.build_optimizer(self.learner)
        self.take = captured_where_it_can_be(outer_step, self.optimizer)
        self.last: Any = None

    def meta_gradient(self) -> None:
        """Add the meta-gradient to `.grad`."""
        self.learner(self.tasks).loss.backward()

    def step(self) -> None:
        """Make one outer step, and look whether the one before it has moved the weights, as a training does."""
        taken = self.take(self.learner, [self.tasks], self.optimizer, self.training)
        if self.last is not None:
            bool(self.last.moved)
        self.last = taken


def on_strategy(build: Callable[[Any], Any], strategy: str, precision: str = "float32") -> Any:
    """Return a learner that runs by a strategy.

    Raises:
        Uncapturable: for graphs without a GPU.
    """
    if strategy == "graph" and not torch.cuda.is_available():
        raise Uncapturable("there are graphs on a CUDA GPU alone")
    return build(fa.Execution(route=strategy, compile="off", precision=precision))  # type: ignore[arg-type]


class OnJax(Way):
    """JAX's own program of the outer step, see `workers/by_jax.py`."""

    def __init__(self, workload: Workload, device: torch.device, matmul: str) -> None:
        import by_jax
        import jax

        jax.config.update("jax_default_matmul_precision", matmul)
        self.device, self.workload = device, workload
        self.worker = by_jax.Jax("vmap", "conv")
        self.worker.load(workload.spec("float32", {}), inputs.arrays(workload))

    def gradient(self) -> dict[str, Tensor]:
        """Return the meta-gradient by the parameters' names."""
        return {name: torch.from_numpy(array.copy()).double() for name, array in self.worker.gradient(None).items()}

    def step(self) -> None:
        """Make one outer step."""
        self.worker.steps(1)


def ways(workload: Workload) -> list[str]:
    """Return the ways that are measured: of first order, and of networks without convolutions, fewer."""
    left_out = set()
    if workload.net not in ("conv4", "resnet12") or workload.first_order:
        left_out.add("ours, graph, one by one")
    if workload.first_order:
        left_out |= {"ours, graph, tf32", "ours, graph, bf16"}
    return [way for way in WAYS if way not in left_out]


WAYS: dict[str, Callable[[Workload, torch.device], Way]] = {
    "plain loop": Plain,
    "ours, vmap": lambda w, device: Ours(w, device, "vmap"),
    "ours, graph": lambda w, device: Ours(w, device, "graph"),
    "ours, graph, one by one": lambda w, device: Ours(w, device, "graph"),
    "ours, graph, tf32": lambda w, device: Ours(w, device, "graph", "tf32"),
    "ours, graph, bf16": lambda w, device: Ours(w, device, "graph", "bf16"),
    "JAX, highest": lambda w, device: OnJax(w, device, "highest"),
    "JAX, default": lambda w, device: OnJax(w, device, "default"),
}


def error(gradient: dict[str, Tensor], reference: dict[str, Tensor], ignored: str) -> float:
    """Return the relative L2 distance of two gradients over all parameters that are not ignored."""
    names = [n for n in reference if not (ignored and re.fullmatch(ignored, n))]
    off = sum(float((gradient[n].reshape(reference[n].shape) - reference[n]).square().sum()) for n in names)
    return (off / sum(float(reference[n].square().sum()) for n in names)) ** 0.5


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(step: Callable[[], None], device: torch.device, seconds: float) -> list[float]:
    """Return the seconds of a step, of up to five blocks of steps that fill `seconds` together."""
    step()
    synchronize(device)
    began = time.perf_counter()
    step()
    synchronize(device)
    count = max(1, min(200, int(seconds / 5 / max(time.perf_counter() - began, 1e-6))))
    blocks: list[float] = []
    while len(blocks) < 5 and (not blocks or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        for _ in range(count):
            step()
        synchronize(device)
        blocks.append((time.perf_counter() - start) / count)
    return blocks


def by_form(name: str) -> Any:
    """Return the context in which a way computes: one of them forces the form of convolutions."""
    return forced("one by one") if name.endswith("one by one") else nullcontext()
