"""A stand-in for a CUDA graph on the CPU: it records the operations once, and a replay runs them again and no Python.

As on a GPU, what was recorded reads the very tensors that it was recorded with, recording computes nothing, and every
replay writes its results to the same places. Whoever hands it a tensor that is not written to again, or keeps a result
over the next replay, gets wrong numbers.
"""

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fastadapt.engine.recorder import Uncapturable

WAITING = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.equal.default"}


class NoWaiting(TorchDispatchMode):
    """Refuse what would wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func) in WAITING:
            raise Uncapturable(f"it waits for the device: {func}")
        return func(*args, **(kwargs or {}))


class Replaying:
    """Record on the CPU; `log` has what was asked of it, in order."""

    size = 100

    def __init__(self, device):
        self.device = device
        self.log = []
        self.taken = 0

    def allocated(self):
        return self.taken

    def forget(self):
        self.log.append("forget")
        self.taken = 0

    def generator(self):
        return torch.get_rng_state()

    def set_generator(self, state):
        torch.set_rng_state(state)

    def warm(self, function, strict):
        self.log.append("warm")
        if not strict:
            return function()
        with NoWaiting():
            return function()

    def record(self, function):
        self.log.append("record")
        forms = []

        def flat():
            leaves, form = pytree.tree_flatten(function())
            forms.append(form)
            return leaves

        with NoWaiting():
            graph = make_fx(flat, tracing_mode="real")()
        outputs = [torch.full_like(leaf, 13) for leaf in graph()]
        self.taken += self.size

        def replay():
            self.log.append("replay")
            for output, fresh in zip(outputs, graph(), strict=True):
                output.copy_(fresh)

        return pytree.tree_unflatten(outputs, forms[0]), replay
