"""N-way K-shot tasks over images that have a class: Omniglot, mini-ImageNet, or your own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Origin, Task, Tasks

Rotation = Literal["none", "per_class", "per_task"]
MOST_COLOURS = 4
"""Channels of a usual image: one, or three, and how much is seen of it."""


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Draw N-way K-shot classification tasks from images held in memory.

    A task takes `ways` classes without replacement and numbers them `0..ways-1` in an order drawn
    for that task; of each class it takes `shots + queries` distinct images, the first `shots` for
    the support set. The draws don't depend on `shots` or `queries`, so the 1-shot task of a
    generator is the beginning of its 5-shot task.

    Args:
        images: `[M, H, W]` or `[M, H, W, C]`, uint8; what looks like `[M, C, H, W]` is refused. Subsets share it, and
            on a GPU it yields tasks on that GPU.
        labels: `[M]`, integers; the position in `class_names` of each image's class, or -1 for an
            image that isn't used.
        class_names: one name per class.
        ways: classes of a task, N.
        shots: support images per class (K).
        queries: query images per class (Q); may be 0.
        rotation: turn the classes of a task by random multiples of 90 degrees: "none"; "per_class", each class by
            its own, the same for all its images (MAML); "per_task", all by one.
        rotated_classes: whether each class counts as four, turned by 0, 90, 180 and 270 degrees
            (Reptile's training classes).
        invert: false gives `x / 255` (paper 1 and ink 0 on scans, colours as they are), true gives
            `1 - x / 255` (ink 1).
        mean: subtracted from each channel, in units of the values that `invert` names; `None` is 0.
        std: what each channel is divided by after that; `None` is 1.
        names: `[M]`, what each image is called, such as its file; `None` numbers them within their class.

    Raises:
        ConfigError: if a setting is outside its range.
        DataError: if the arrays don't fit together, there are fewer classes than `ways`, or a class
            has fewer images than `shots + queries`.

    Example:
        >>> import numpy as np, torch
        >>> images = torch.zeros(30, 8, 8, dtype=torch.uint8)
        >>> source = ClassImages(images, np.arange(30) // 3, tuple("abcdefghij"), ways=5, shots=1, queries=2)
        >>> task = source.sample(np.random.default_rng(0))
        >>> task.support[0].shape, task.query[1].tolist()
        (torch.Size([5, 1, 8, 8]), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])

    References:
        Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot
        Learning", 2016, arXiv:1606.04080 (the task form); Finn, Abbeel, Levine, "Model-Agnostic
        Meta-Learning for Fast Adaptation of Deep Networks", 2017, arXiv:1703.03400 (turns per class).
    """

    images: Tensor = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    ways: int = 5
    shots: int = 1
    queries: int = 15
    rotation: Rotation = "none"
    rotated_classes: bool = False
    invert: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = field(default=None, repr=False)
    _order: np.ndarray = field(init=False, repr=False)  # the rows of the images, class by class
    _edges: np.ndarray = field(init=False, repr=False)  # class c has the rows _order[_edges[c]:_edges[c + 1]]

    def __post_init__(self) -> None:
        """Check the settings and sort the images by class."""
        if not isinstance(self.images, Tensor):
            kind = f"{type(self.images).__module__}.{type(self.images).__qualname__}"
            raise DataError(f"images must be a tensor of torch, got {kind}; torch.as_tensor(images) makes one")
        object.__setattr__(self, "labels", _as_array(self.labels))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        self._check_settings()
        self._check_arrays()
        order = np.argsort(self.labels, kind="stable")
        edges = np.searchsorted(self.labels[order], np.arange(len(self.class_names) + 1))
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_edges", edges)
        self._check_enough()

    def __len__(self) -> int:
        """Return the number of classes to draw from, turned ones included."""
        return len(self.class_names) * (4 if self.rotated_classes else 1)

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task.

        Returns:
            A `Task` whose support is `(x, y)` with `x: [ways * shots, C, H, W]` in 0..1 (before
            `mean` and `std`) and `y: [ways * shots]`, int64, `0..ways-1`, class by class; the query
            has the same form with `queries` in place of `shots`.
        """
        tasks = self.sample_batch((rng,))
        (x, y), (xq, yq) = tasks.support, tasks.query
        return Task((x[0], y[0]), (xq[0], yq[0]))

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task per generator: the images of all tasks are gathered, turned and normalised together.

        Returns:
            `Tasks` of `T = len(rngs)` tasks whose support is `(x, y)` with `x: [T, ways * shots, C, H, W]` and
            `y: [T, ways * shots]`, and a query of the same form; task `i` is `sample(rngs[i])`.
        """
        rows, turns = self._draw(rngs)
        turns = np.broadcast_to(turns[:, :, None], rows.shape)
        k, q, count = self.shots, self.queries, len(rngs)
        # all supports before all queries, so that both are contiguous in memory
        flat_rows, flat_turns = (np.concatenate((a[:, :, :k].ravel(), a[:, :, k:].ravel())) for a in (rows, turns))
        x = self._values(flat_rows, flat_turns)
        x, xq = x.split((count * self.ways * k, count * self.ways * q))
        y = torch.arange(self.ways, device=x.device)
        return Tasks(
            (x.view(count, self.ways * k, *x.shape[1:]), y.repeat_interleave(k).repeat(count, 1)),
            (xq.view(count, self.ways * q, *x.shape[1:]), y.repeat_interleave(q).repeat(count, 1)),
        )

    def origin(self, rng: np.random.Generator) -> Origin:
        """Return which images `sample(rng)` takes, and which class each number of the task stands for.

        Example:
            >>> images = torch.zeros(6, 8, 8, dtype=torch.uint8)
            >>> source = ClassImages(images, np.arange(6) // 3, ("a", "b"), ways=2, shots=1, queries=1)
            >>> source.origin(np.random.default_rng(0)).support
            ['a #3', 'b #3']
        """
        rows, turns = self._draw((rng,))
        turned = turns[0] if self.rotated_classes else np.zeros(self.ways, dtype=np.int64)
        own = [self.class_names[self.labels[row]] for row in rows[0, :, 0]]
        classes = [
            name + f" turned by {90 * quarter}°" * bool(quarter) for name, quarter in zip(own, turned, strict=True)
        ]
        called = [[self._called(row) for row in each] for each in rows[0]]
        support, query = ([name for each in called for name in each[part]] for part in self._parts)
        return Origin(support, query, classes)

    @property
    def _parts(self) -> tuple[slice, slice]:
        return slice(None, self.shots), slice(self.shots, None)

    def _called(self, row: int) -> str:
        if self.names is not None:
            return self.names[row]
        label = self.labels[row]
        place = int(np.flatnonzero(self._order == row)[0] - self._edges[label]) + 1
        return f"{self.class_names[label]} #{place}"

    def subset(self, classes: "tuple[str, ...] | list[str]") -> "ClassImages":
        """Return a source over the named classes only, in that order; the images are shared.

        Args:
            classes: names out of `class_names`, each once.

        Raises:
            DataError: if a name is unknown or comes twice, or fewer than `ways` classes are left.

        Example:
            >>> import numpy as np, torch
            >>> images = torch.zeros(6, 8, 8, dtype=torch.uint8)
            >>> source = ClassImages(images, np.arange(6) // 2, ("a", "b", "c"), ways=2, queries=1)
            >>> source.subset(["c", "a"]).class_names
            ('c', 'a')
        """
        position = {name: i for i, name in enumerate(self.class_names)}
        unknown = [name for name in classes if name not in position]
        if unknown:
            raise DataError(
                f"{len(unknown)} of the {len(classes)} classes asked for are not in this set of "
                f"{len(self.class_names)}, the first is {unknown[0]!r}; take names from class_names"
            )
        if len(set(classes)) != len(classes):
            raise DataError(f"a subset needs each class once, got {len(classes)} names of {len(set(classes))} classes")
        number = np.full(len(self.class_names) + 1, -1, dtype=np.int64)  # the last entry serves the label -1
        number[[position[name] for name in classes]] = np.arange(len(classes))
        return replace(self, labels=number[self.labels], class_names=tuple(classes))

    def to(self, device: torch.device | str) -> "ClassImages":
        """Return a source with its images on `device`, which makes its tasks there; itself if they are there already.

        Example:
            >>> import numpy as np, torch
            >>> source = ClassImages(torch.zeros(6, 8, 8, dtype=torch.uint8), np.arange(6) // 3, ("a", "b"), 2, 1, 1)
            >>> source.to("cpu") is source, source.to("meta").images.device
            (True, device(type='meta'))
        """
        images = self.images.to(device)
        return self if images is self.images else replace(self, images=images)

    def with_rotated_classes(self) -> "ClassImages":
        """Return a source in which each class counts as four, one per multiple of 90 degrees."""
        return replace(self, rotated_classes=True)

    def _draw(self, rngs: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of each image, `[T, ways, shots + queries]`, and the quarters each class is turned by."""
        classes = np.empty((len(rngs), self.ways), dtype=np.int64)
        turns = np.zeros_like(classes)
        sizes = np.diff(self._edges)
        # One key per image and class, sorted: a random order of each class. Keys beyond the end of a
        # smaller class sort last.
        keys = np.full((*classes.shape, sizes.max()), 2.0)
        for t, rng in enumerate(rngs):
            drawn = rng.choice(len(self), self.ways, replace=False)
            quarters = 0
            if self.rotation != "none":
                quarters = rng.integers(4, size=self.ways if self.rotation == "per_class" else 1)
            if self.rotated_classes:
                drawn, quarters = drawn // 4, (drawn + quarters) % 4
            classes[t], turns[t] = drawn, quarters
            largest = sizes[classes[t]].max()
            keys[t, :, :largest] = rng.random((self.ways, largest))
        drawn_sizes = sizes[classes]
        if drawn_sizes.min() < sizes.max():
            keys[np.arange(sizes.max()) >= drawn_sizes[:, :, None]] = 2.0
        picks = keys.argsort(axis=2)[:, :, : self.shots + self.queries]
        return self._order[self._edges[classes][:, :, None] + picks], turns

    def _values(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        """Return the images of `rows`, each turned by `turns` quarters, as floats `[n, C, H, W]`."""
        turned = [np.flatnonzero(turns == quarter) for quarter in (1, 2, 3)]
        sizes = [len(rows), *map(len, turned)]
        # one transfer to the device for all indices
        index, *turned = torch.from_numpy(np.concatenate((rows, *turned))).to(self.images.device).split(sizes)
        images = self.images.index_select(0, index)
        for quarter, places in enumerate(turned, start=1):
            if len(places):
                images.index_copy_(0, places, torch.rot90(images.index_select(0, places), quarter, (1, 2)))
        images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
        x = images.to(torch.float32, memory_format=torch.contiguous_format)
        # a tensor, since a GPU multiplies by the reciprocal of a plain number, which is not the CPU's last bit
        x.div_(torch.tensor(255.0, device=x.device))
        if self.invert:
            torch.sub(torch.ones((), device=x.device), x, out=x)
        if self.mean is not None:
            x.sub_(torch.tensor(self.mean, device=x.device).view(-1, 1, 1))
        if self.std is not None:
            x.div_(torch.tensor(self.std, device=x.device).view(-1, 1, 1))
        return x

    def _check_settings(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.rotation not in get_args(Rotation):
            raise ConfigError(f"rotation must be one of {', '.join(get_args(Rotation))}, got {self.rotation!r}")
        if self.std is not None and min(self.std, default=0) <= 0:
            raise ConfigError(f"std must be positive in every channel, got {self.std}")

    def _check_arrays(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) not in (3, 4):
            mend = "; for 0..1 give (255 * images).round().to(torch.uint8)" if self.images.is_floating_point() else ""
            got = f"{self.images.dtype} {list(shape)}"
            raise DataError(f"images must be uint8 [M, H, W] or [M, H, W, C], got {got}{mend}")
        if len(shape) == 4 and _channels_first(*shape[1:]):
            raise DataError(
                f"images must be [M, H, W, C], and {list(shape)} looks like [M, C, H, W], with {shape[1]} "
                f"channel{'s' * (shape[1] > 1)} first; give images.permute(0, 2, 3, 1)"
            )
        self._check_labels()
        channels = shape[3] if len(shape) == 4 else 1
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) not in (1, channels):
                raise ConfigError(f"{name} needs 1 value or one for each of {channels} channels, got {value}")
        if (self.rotation != "none" or self.rotated_classes) and shape[1] != shape[2]:
            raise ConfigError(f"turning by 90 degrees needs square images, got {shape[1]}x{shape[2]}; don't turn them")

    def _check_labels(self) -> None:
        shape, names = tuple(self.images.shape), self.class_names
        if self.labels.shape != shape[:1] or self.labels.dtype.kind not in "iu":
            raise DataError(
                f"labels must be one integer for each of the {shape[0]} images, got {self.labels.dtype} "
                f"{list(self.labels.shape)}; np.unique(labels, return_inverse=True) numbers classes"
            )
        if len(set(names)) != len(names):
            raise DataError(f"class names must differ, got {len(names)} names of which {len(set(names))} differ")
        if len(self.labels) and (self.labels.max() >= len(names) or self.labels.min() < -1):
            raise DataError(
                f"labels must be -1..{len(names) - 1} as there are {len(names)} class names, got "
                f"{self.labels.min()}..{self.labels.max()}; number classes from 0, and name each"
            )
        if self.names is not None and len(self.names) != shape[0]:
            raise DataError(f"names must be one for each of the {shape[0]} images, got {len(self.names)}")

    def _check_enough(self) -> None:
        if len(self) < self.ways:
            raise DataError(f"a {self.ways}-way task needs {self.ways} classes, but there are {len(self)}; lower ways")
        need = self.shots + self.queries
        for name, size in zip(self.class_names, np.diff(self._edges), strict=True):
            if size < need:
                raise DataError(
                    f"class {name!r} has {size} images, but {self.shots} shots and {self.queries} queries need "
                    f"{need}; lower shots or queries, or leave the class out with subset(...)"
                )


def _as_array(labels: Any) -> np.ndarray:
    try:
        return labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    except ValueError as error:  # lists of several lengths
        raise DataError(f"labels must be one integer for each image, got a ragged list ({error})") from error


def _channels_first(a: int, b: int, c: int) -> bool:
    """Return whether an image of these three axes has its channels first: a few rows of many channels are none."""
    return a <= MOST_COLOURS < c or (b == c and a < b)
