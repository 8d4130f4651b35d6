"""Record what a function launches on a GPU, to launch it again as one piece: a CUDA graph.

Recording runs the Python code once and executes nothing; a replay executes everything and runs no Python. So what is
recorded has to be computed from tensors that stay where they are, and may not ask the device for a number on its way.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fastadapt.layers.bound import first_line

_recording: ContextVar[bool] = ContextVar("recording", default=False)


@contextmanager
def recording() -> Iterator[None]:
    """Run what is inside as it stands, without graphs of its own: it is recorded as a part of something larger."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recorded() -> bool:
    """Whether this is part of something that is recorded as a whole."""
    return _recording.get()


class Uncapturable(Exception):  # noqa: N818  a reason to run otherwise, which no user meets
    """A computation can't be recorded; the message says why, as the end of a sentence that begins with "because"."""


class Recorder(Protocol):
    """Record functions without arguments on one device."""

    def allocated(self) -> int:
        """Return the bytes that are taken from the device, but for what is free to be used again."""
        ...

    def forget(self) -> None:
        """Begin with new memory: nothing that was recorded is used any more."""
        ...

    def generator(self) -> Tensor:
        """Return the state of the device's random generator."""
        ...

    def set_generator(self, state: Tensor) -> None:
        """Put the device's random generator into a state that `generator` returned."""
        ...

    def warm(self, function: Callable[[], Any], strict: bool) -> Any:
        """Return `function()`; if `strict`, whatever waits for the device raises.

        Raises:
            Uncapturable: if it waits for the device.
        """
        ...

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Return what `function()` returns, and what computes it: until that is called the numbers mean nothing.

        Every replay writes to the very same tensors.

        Raises:
            Uncapturable: if it can't be recorded; the device is as usable as before.
        """
        ...


WAITS = ("synchroniz", "captur", "between cpu and cuda", "out of memory")
"""What torch's errors say where a computation waits for the device, or can't be recorded."""


class OnCuda:
    """Record CUDA graphs, all in one pool of memory, as no two of them run at once.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise Uncapturable(f"its tensors lie on {device}, and there are graphs on a CUDA GPU alone")
        index = device.index if device.index is not None else torch.cuda.current_device()
        self.device = torch.device("cuda", index)
        self.stream = torch.cuda.Stream(self.device)
        self.pool: Any = torch.cuda.graph_pool_handle()

    def allocated(self) -> int:
        """Return the bytes that the allocator has taken from the device, without those that it keeps for later."""
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(self.device)

    def forget(self) -> None:
        """Take a new pool; the memory of the old one is given back with the last graph that lies in it."""
        self.pool = torch.cuda.graph_pool_handle()

    def generator(self) -> Tensor:
        """Return the state of the device's default generator, which takes part in every recording by itself."""
        return torch.cuda.get_rng_state(self.device)

    def set_generator(self, state: Tensor) -> None:
        """Set the state of the device's default generator."""
        torch.cuda.set_rng_state(state, self.device)

    def warm(self, function: Callable[[], Any], strict: bool) -> Any:
        """Return `function()`, on the stream that records; libraries choose and load their kernels here."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream), waits_noticed() if strict else nullcontext([]) as waits:
                result = function()
            current.wait_stream(self.stream)
        if waits:
            raise Uncapturable(f"it waits for the GPU on its way ({waits[0]})")
        return result

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Return the results and the replay of `function`."""
        graph = torch.cuda.CUDAGraph()
        # torch's own context leaves its stream current where the end of a recording fails, so that ours is around it
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            try:
                # other threads (a loader's, the service's) may go on meanwhile
                with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                    result = function()
            except RuntimeError as error:
                self._clear(graph)
                first = error.__context__  # of two errors, the end of the recording has raised the second
                raise _reason(error, first if isinstance(first, Exception) else error) from error
            except BaseException:
                self._clear(graph)
                raise
        return result, graph.replay

    def _clear(self, graph: Any) -> None:
        """Leave the device as usable as it was before a recording that failed."""
        ends: Any = getattr(torch._C, "_cuda_endAllocateToPool", None)
        with suppress(Exception):  # the allocator may still serve the recording, or have ended that by itself
            ends(self.device.index, self.pool)
        with suppress(Exception):
            graph.reset()
        with suppress(Exception):  # the error of the recording, which would surface at the next call
            torch.cuda.synchronize(self.device)
        self.forget()  # what the failed one has begun is not built upon


@contextmanager
def waits_noticed() -> Iterator[list[str]]:
    """Gather where this thread waits for the GPU, in the list that is yielded, as "loss.py, line 7".

    torch tells of waits in all threads, by warnings or errors. Errors would end what other threads rightly wait for.
    """
    mine, seen = threading.get_ident(), list[str]()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def note(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
            if "synchroniz" not in str(message).lower():
                shown(message, category, filename, lineno, *rest, **more)
            elif threading.get_ident() == mine:
                seen.append(f"{Path(filename).name}, line {lineno}")

        warnings.showwarning = note
        warnings.filterwarnings("always", message=".*ynchroniz.*")
        torch.cuda.set_sync_debug_mode("warn")
        seen.clear()  # torch warns of the mode itself
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode(before)


def _reason(error: Exception, first: Exception) -> Exception:
    """Return `first`, the error that a recording met, as the reason why there is none where it is one."""
    if any(word in str(told).lower() for told in (error, first) for word in WAITS):
        return Uncapturable(f"it can't be recorded on the GPU: {first_line(first)}")
    return first
