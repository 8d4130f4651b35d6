"""In which form things are computed inside a vmap over tasks: tables by device and shape, and no clock.

A normalisation by the batch's own moments takes few kernels on a GPU, and sums sample by sample on a CPU, where one
sample stays in the cache (`few_kernels`). Convolutions with filters of each task have two forms:

* "one by one" calls the library's kernel once for each task: near its peak on a CPU, and on large maps anywhere.
* "patches" cuts the maps into patches and multiplies matrices, of all tasks by one call: see
  `fastadapt.layers.patches`.

On a GPU a small convolution does not fill the device, and calls for each task come one after another; patches of large
maps take more memory traffic than the convolution itself. The two bounds below follow from that by count: a call under
`LARGE_WORK` takes less than some 50 microseconds. `python benchmarks/speed/gpu.py --parts convolutions` measures both
forms for the shapes of Conv4 on a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from torch import Tensor

Form = Literal["one by one", "patches"]

LARGE_WORK = 2e9
"""Operations of one task's convolution above which a GPU is filled by it."""
LARGE_PATCHES = 1 << 30
"""Bytes of the patches of all tasks above which they are not made."""


class Shape(NamedTuple):
    """Hold what the form is chosen by.

    Args:
        device: the type of device.
        tasks: how many tasks there are.
        patch: numbers in a patch.
        places: patches of one task.
        filters: filters of each task.
        size: bytes of a number.
    """

    device: str
    tasks: int
    patch: int
    places: int
    filters: int
    size: int

    @property
    def work(self) -> int:
        """Operations of one task's convolution."""
        return 2 * self.patch * self.places * self.filters

    @property
    def bytes(self) -> int:
        """Bytes of the patches of all tasks."""
        return self.tasks * self.patch * self.places * self.size


TABLE: tuple[tuple[str, Callable[[Shape], bool], Form], ...] = (
    ("on a CPU", lambda shape: shape.device != "cuda", "one by one"),
    ("one task fills the GPU", lambda shape: shape.work > LARGE_WORK, "one by one"),
    ("patches too large to be made", lambda shape: shape.bytes > LARGE_PATCHES, "one by one"),
    ("small convolutions on a GPU", lambda shape: True, "patches"),
)
"""What it is, whether it is that, the form: the first row that fits."""

_forced: ContextVar[Form | None] = ContextVar("form", default=None)
_device: ContextVar[str | None] = ContextVar("device", default=None)


def form(shape: Shape) -> Form:
    """Return the form of the first row of the table that fits.

    Example:
        >>> form(Shape("cuda", tasks=32, patch=576, places=980, filters=64, size=4))
        'patches'
        >>> form(Shape("cpu", tasks=32, patch=576, places=980, filters=64, size=4))
        'one by one'
    """
    shape = shape._replace(device=_device.get() or shape.device)
    return _forced.get() or next(found for _, fits, found in TABLE if fits(shape))


def few_kernels(x: Tensor) -> bool:
    """Return whether few kernels matter more than what stays in a cache: on a GPU."""
    return (_device.get() or x.device.type) == "cuda"


@contextmanager
def forced(form: Form) -> Iterator[None]:
    """Take one form whatever the shape, to compare them."""
    token = _forced.set(form)
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def as_on(device: str) -> Iterator[None]:
    """Take the forms of another type of device, to compare them on this one."""
    token = _device.set(device)
    try:
        yield
    finally:
        _device.reset(token)
