"""A stand-in for a CUDA graph on the CPU: it records operations once, and a replay runs these again and no Python.

As on a GPU, what was recorded reads and writes the very tensors that it was recorded with, recording computes nothing,
and every replay writes its results to the same places. Whoever hands it a tensor that is not written to again, lets
Python decide something at each step, or keeps a result over the next replay gets wrong numbers.
"""

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fastadapt.engine.recorder import Uncapturable

WAITING = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.equal.default", "aten.is_nonzero.default"}


def tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def place(tensor):
    return tensor.untyped_storage().data_ptr()


class NoWaiting(TorchDispatchMode):
    """Refuse what would wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func) in WAITING:
            raise Uncapturable(f"it waits for the device: {func}")
        return func(*args, **(kwargs or {}))


class Tape(NoWaiting):
    """Note every operation, and what the tensors that it changes held before."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.before = {}
        self.own = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written = []
        for argument, value in (*zip(func._schema.arguments, args, strict=False), *self._named(func, kwargs)):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written += tensors(value)
        for tensor in written:  # whole storages: what is written to may be a part of one
            if place(tensor) not in self.own and place(tensor) not in self.before:
                self.before[place(tensor)] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        given = {place(tensor) for tensor in tensors((args, kwargs))}
        result = super().__torch_dispatch__(func, types, args, kwargs)
        fresh = [(i, leaf) for i, leaf in enumerate(tensors(result)) if place(leaf) not in given]
        self.own |= {place(leaf) for _, leaf in fresh}
        self.operations.append((func, args, kwargs, result, fresh))
        return result

    @staticmethod
    def _named(func, kwargs):
        by_name = {argument.name: argument for argument in func._schema.arguments}
        return [(by_name[name], value) for name, value in kwargs.items()]

    def undo(self):
        """Let it be as if nothing had been computed."""
        for storage, content in self.before.values():
            storage.copy_(content)
        for *_, fresh in self.operations:
            for _, leaf in fresh:
                leaf.fill_(13)

    def replay(self):
        for func, args, kwargs, _, fresh in self.operations:
            again = tensors(func(*args, **kwargs))
            for i, leaf in fresh:
                leaf.copy_(again[i])


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
        self.taken += self.size
        with torch.no_grad():
            with Tape() as tape:
                results = function()
            tape.undo()

        def replay():
            self.log.append("replay")
            with torch.no_grad():
                tape.replay()

        return results, replay
