"""The tensors of a module, and whether they are still the same and lie where they did."""

from operator import getitem, is_
from typing import Any

from torch import nn


class Places:
    """Hold the parameters and buffers of a module and its parts.

    Args:
        module: the module.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> places = Places(layer)
        >>> places.stand()
        True
        >>> layer.weight = nn.Parameter(layer.weight.detach().clone())
        >>> places.stand()
        False
    """

    def __init__(self, module: nn.Module) -> None:
        held: list[Any] = [space for part in module.modules() for space in (part._parameters, part._buffers)]
        # columns, so that no Python code runs for each of them
        self._spaces = [space for space in held for _ in space]
        self._names = [name for space in held for name in space]
        self._tensors = [tensor for space in held for tensor in space.values()]
        self._present = [tensor for tensor in self._tensors if tensor is not None]
        self._addresses = [tensor.data_ptr() for tensor in self._present]

    def stand(self) -> bool:
        """Return whether each name has the tensor that it had, with its numbers where they were."""
        try:
            found: Any = map(getitem, self._spaces, self._names)  # type: ignore[arg-type]
            same = all(map(is_, found, self._tensors))
        except KeyError:
            return False
        return same and [tensor.data_ptr() for tensor in self._present] == self._addresses
