"""A flat list of cheap checks that Python values are still where they were."""

from contextlib import suppress
from operator import attrgetter, contains, getitem, is_
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.outside import settings
from fastadapt.layers.kept import hooked_by_others

_version = attrgetter("_version")
_address = Tensor.data_ptr
MOST_REMEMBERED = 1 << 28
"""Bytes of tensors that are copied, to be put back after a look."""
_GONE = (KeyError, IndexError, AttributeError, ValueError, RuntimeError, TypeError)


def ambient() -> Any:
    """Return torch's own settings that an operation's result depends on, and that a program has taken."""
    casts = [torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")]
    kinds = [torch.get_autocast_dtype("cpu"), torch.get_autocast_dtype("cuda")] if any(casts) else None
    return torch.get_default_dtype(), casts, kinds, settings()


class Checks:
    """Hold `(container, key, value)` and the like, in columns, so that no Python code runs for each of them.

    Example:
        >>> checks, held = Checks(), {"beta": 1.0}
        >>> checks.item(held, "beta", held["beta"])
        >>> checks.hold()
        True
        >>> held["beta"] = 0.5
        >>> checks.hold()
        False
    """

    def __init__(self) -> None:
        self._items: tuple[list[Any], list[Any], list[Any]] = [], [], []
        self._attributes: tuple[list[Any], list[str], list[Any]] = [], [], []
        self._absent: tuple[list[Any], list[Any]] = [], []
        self._sized: list[Any] = []
        self._lengths: list[int] = []
        self._empty: list[Any] = []
        self._sets: list[tuple[Any, frozenset[Any]]] = []
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._addresses: list[int] = []
        self._bytes: list[tuple[Any, bytes]] = []
        self._copies: list[tuple[Any, Any]] = []
        self._contents: list[tuple[Tensor, int, Tensor]] = []
        self._ambient = ambient()

    def __len__(self) -> int:
        return len(self._items[0]) + len(self._attributes[0]) + len(self._tensors) + len(self._bytes)

    # ---- what is to stay -------------------------------------------------------------------------

    def item(self, container: Any, key: Any, value: Any) -> None:
        """Expect `container[key] is value`."""
        for column, entry in zip(self._items, (container, key, value), strict=True):
            column.append(entry)

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        """Expect `owner.name is value`."""
        for column, entry in zip(self._attributes, (owner, name, value), strict=True):
            column.append(entry)

    def absent(self, container: Any, key: Any) -> None:
        """Expect no such key."""
        for column, entry in zip(self._absent, (container, key), strict=True):
            column.append(entry)

    def size(self, container: Any) -> None:
        """Expect as many entries."""
        self._sized.append(container)
        self._lengths.append(len(container))

    def copy(self, container: Any, content: Any) -> None:
        """Remember what `restore` fills a container with."""
        self._copies.append((container, content))

    def empty(self, container: Any) -> None:
        """Expect no entry."""
        self._empty.append(container)

    def members(self, members: Any) -> None:
        """Expect the same members of a set."""
        self._sets.append((members, frozenset(members)))
        self._copies.append((members, set(members)))

    def tensor(self, tensor: Tensor) -> None:
        """Expect a tensor that nothing has been written to."""
        self._versions.append(tensor._version)
        self._addresses.append(tensor.data_ptr())
        self._tensors.append(tensor)

    def content(self, buffer: Any) -> bytes:
        """Expect the same bytes in what has a buffer, such as an array; return them."""
        content = _content(buffer)
        self._bytes.append((buffer, content))
        return content

    def remember_tensors(self) -> None:
        """Remember the numbers of tensors, which `restore` puts back where they were written to; parameters are not."""
        left = MOST_REMEMBERED
        for tensor in self._tensors:
            left -= tensor.numel() * tensor.element_size()
            if left > 0 and not isinstance(tensor, nn.Parameter) and not tensor.requires_grad:
                self._contents.append((tensor, tensor._version, tensor.detach().clone()))

    # ---- asking ----------------------------------------------------------------------------------

    def hold(self) -> bool:
        """Return whether all is as it was."""
        containers, keys, values = self._items
        owners, names, found = self._attributes
        try:
            return (
                all(map(is_, map(getitem, containers, keys), values))
                and all(map(is_, map(getattr, owners, names), found))
                and list(map(len, self._sized)) == self._lengths
                and not any(self._empty)
                and not hooked_by_others()
                and not any(map(contains, *self._absent))
                and list(map(_version, self._tensors)) == self._versions
                and list(map(_address, self._tensors)) == self._addresses
                and all(_content(buffer) == content for buffer, content in self._bytes)
                and all(now == then for now, then in self._sets)
                and ambient() == self._ambient
            )
        except _GONE:  # something is not there any more
            return False

    def restore(self) -> None:
        """Put everything back where it was, as far as Python lets it."""
        for container, content in self._copies:
            _refill(container, content)
        for container, key, value in zip(*self._items, strict=True):
            if type(container) is dict and container.get(key) is not value:
                container[key] = value
        for owner, name, value in zip(*self._attributes, strict=True):
            with suppress(Exception):  # what can't be set
                if getattr(owner, name, None) is not value:
                    setattr(owner, name, value)
        for tensor, version, numbers in self._contents:
            if tensor._version != version:
                with suppress(Exception), torch.no_grad():
                    tensor.copy_(numbers)
        for buffer, content in self._bytes:
            with suppress(Exception):  # what can't be written to
                if _content(buffer) != content:
                    memoryview(buffer).cast("B")[:] = content


def _content(buffer: Any) -> bytes:
    return buffer.tobytes() if hasattr(buffer, "tobytes") else bytes(memoryview(buffer).cast("B"))


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        for key in [key for key in container if key not in content]:
            del container[key]
        for key, value in content.items():
            if key not in container or container[key] is not value:
                container[key] = value
    elif len(container) != len(content) or not all(map(is_, container, content)):
        container.clear()
        container.update(content) if isinstance(container, set) else container.extend(content)
