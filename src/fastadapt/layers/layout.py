"""Where the tensors of a module lie."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastadapt.layers.copied import content_of
from fastadapt.layers.scope import PLACES, here, own_of
from fastadapt.layers.settled import DEPTH


class Layout:
    """Find where a module's tensors lie: in its parts, and in plain attributes that refer to them as well.

    Args:
        module: the module.
        others: further modules that are bound with it; what they don't share with it is called `other:name`.
    """

    def __init__(self, module: nn.Module, others: Mapping[str, nn.Module] | None = None) -> None:
        self.names: dict[int, str] = {}
        self.parts: list[nn.Module] = []
        self.norms: set[str] = set()
        """The names of the running means that batch-norm layers own; what else calls it gives moments of its own."""
        known: set[nn.Module] = set()
        # a tensor under several names goes by its first, as in named_parameters()
        for root, whole in {"": module, **(others or {})}.items():
            for prefix, part in whole.named_modules(known):
                self.parts.append(part)
                start = (f"{root}:" if root else "") + (f"{prefix}." if prefix else "")
                if isinstance(part, _BatchNorm):
                    self.norms.add(f"{start}running_mean")
                for place in PLACES:
                    for name, value in own_of(part, place).items():
                        if value is not None:
                            self.names.setdefault(id(value), start + name)
        self.keys = {name: key for key, name in self.names.items()}
        self.aliases = [
            (part, name, value)
            for part in self.parts
            for name, value in here.before.get(id(part), (part, part.__dict__))[1].items()
            if name not in PLACES and self._has(value)
        ]
        found = [
            cell
            for part in self.parts
            for function in functions_in(here.before.get(id(part), (part, part.__dict__))[1])
            for cell in function.__closure__ or ()
        ]
        contents = [here.cells.get(id(cell), (cell, content_of(cell)))[1] for cell in found]
        pairs = [(cell, own) for cell, own in zip(found, contents, strict=True) if id(own) in self.names]
        # a recurrent layer renews its list of weights when it is called, also in a backward pass
        self.refers = bool(pairs) or any(not isinstance(part, nn.RNNBase) for part, _, _ in self.aliases)
        self.cells, self.contents = [cell for cell, _ in pairs], [own for _, own in pairs]

    def _has(self, value: Any, depth: int = DEPTH) -> bool:
        """Whether a plain attribute refers to one of the tensors (a recurrent layer keeps a list of its weights)."""
        if isinstance(value, Tensor):
            return id(value) in self.names
        if isinstance(value, partial):
            value = [value.args, value.keywords]
        if not depth or not isinstance(value, (list, tuple, dict)):
            return False
        items = value.values() if isinstance(value, dict) else value
        return any(
            self._has(item, depth - 1) for item in items if isinstance(item, (Tensor, list, tuple, dict, partial))
        )


def functions_in(value: Any, depth: int = DEPTH) -> Iterator[FunctionType]:
    """Yield the functions that have a closure among the attributes of a module."""
    if isinstance(value, FunctionType):
        if value.__closure__:
            yield value
    elif isinstance(value, partial):
        yield from functions_in(value.func, depth)
    elif depth and isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, (FunctionType, partial, list, tuple, dict)):
                yield from functions_in(item, depth - 1)
