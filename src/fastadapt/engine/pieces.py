"""Pieces of a task's computation as programs: traced once for a shape, compiled, and used again.

A program is a flat list of torch operations without autograd, as the gradients are taken while it is traced. "trace"
replays that list, which saves the cost of differentiating anew; "on" gives it to TorchInductor, which fuses it to
native code (or, on a GPU, to Triton kernels in a CUDA graph). What it has compiled, it keeps on disk for later
processes.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Calculus, Functional
from fastadapt.inner.runner import Piece
from fastadapt.layers.tracing import written_for

Kind = Literal["trace", "on"]
Flat = Callable[..., list[Tensor]]


def laid_out(leaf: Tensor) -> Tensor:
    """Return a tensor in the layout that programs take: images and filters with channels innermost, on a CPU."""
    images = leaf.dim() == 4 and leaf.device.type == "cpu"
    return leaf.contiguous(memory_format=torch.channels_last if images else torch.contiguous_format)


class Compiled:
    """Run pieces as programs; see `fastadapt.inner.runner.Runner`.

    Args:
        kind: "trace" or "on".
        batched: whether arguments of the task have a leading task axis, over which pieces are vmapped.
        threads: threads of one program.
        segment: inner steps in one program of the backward sweep; default 1, one program for all steps.
    """

    def __init__(self, kind: Kind, batched: bool, threads: int, segment: int | None = None) -> None:
        self.calculus: Calculus = Functional()
        self.segment: int | None = segment or 1
        self.kind: Kind = kind
        self.batched = batched
        self.threads = threads
        self._programs: dict[Any, tuple[Flat, Any]] = {}
        self._building = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def __call__(self, name: str, piece: Piece, shared: Mapping[str, Any], each: Mapping[str, Any]) -> Any:
        """Return `piece(calculus, **shared, **each)`, compiled when it is first seen with these shapes."""
        if not self.batched:  # then it doesn't matter what is shared
            shared, each = {}, dict(sorted({**shared, **each}.items()))
        leaves, structure = pytree.tree_flatten((shared, each))
        leaves = [laid_out(leaf) for leaf in leaves]  # a program is made for one layout
        key = (name, structure, tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves))
        if key not in self._programs:
            with self._building:
                if key not in self._programs:
                    self._programs[key] = self._build(piece, leaves, structure)
        program, outputs = self._programs[key]
        return pytree.tree_unflatten(program(*leaves), outputs)

    def _build(self, piece: Piece, leaves: list[Tensor], structure: Any) -> tuple[Flat, Any]:
        def flat(shared: Mapping[str, Any], each: Mapping[str, Any]) -> Any:
            if self.batched:
                run = vmap(lambda each: piece(self.calculus, **shared, **each), randomness="different")
                return run(each)
            return piece(self.calculus, **shared, **each)

        graph, outputs = recorded(flat, leaves, structure)
        return finished(graph, leaves, self.kind, self.threads), outputs


def recorded(function: Callable[..., Any], leaves: list[Tensor], structure: Any) -> tuple[torch.fx.GraphModule, Any]:
    """Return the flat operations of `function(*arguments)`, and the structure of what it returns.

    Args:
        function: a pure function of tensors.
        leaves: example tensors.
        structure: how they make up the arguments.
    """
    outputs: list[Any] = []

    def flat(*leaves: Tensor) -> list[Tensor]:
        results, form = pytree.tree_flatten(function(*pytree.tree_unflatten(list(leaves), structure)))
        outputs.append(form)
        return [laid_out(leaf) for leaf in results]

    with written_for("compiler"), torch.no_grad():
        graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*leaves)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph, outputs[0]


def finished(graph: torch.fx.GraphModule, leaves: list[Tensor], kind: Kind, threads: int) -> Flat:
    """Return the recorded operations as a program: replayed, or compiled."""
    return graph if kind == "trace" else _inductor(graph, leaves, threads)


def _inductor(graph: torch.fx.GraphModule, leaves: list[Tensor], threads: int) -> Flat:
    import torch._inductor as inductor

    cuda = any(leaf.is_cuda for leaf in leaves)
    options: dict[str, Any] = {"triton.cudagraphs": True} if cuda else {"cpp.threads": threads, "cpp_wrapper": True}
    with torch.no_grad():
        program: Any = inductor.compile(graph, list(leaves), options=options)
        program(*leaves)  # what it finishes at its first call must not be left to several threads
    if not cuda:
        return program
    # a CUDA graph writes to the same addresses at every replay, and the trajectory has to outlive it
    return lambda *leaves: [out.clone() for out in program(*leaves)]
