"""Splits of domains as tasks: some domains are the support, one that was left out is the query."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.names import told_alike
from fastadapt.data.tables.missing import LABELS, is_missing
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Task, Tasks, group_by_shape

How = Literal["random", "all", "pooled"]
Batch = tuple[Any, ...]
Draw = Callable[[np.random.Generator], Batch]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DomainSplits:
    """Draw splits of N domains: one is left out as the query, the N - 1 others are the support.

    Args:
        draws: for each domain a function of a generator that returns a batch, such as `(x, y)`; equal shapes for all.
        names: what the domains are called.
        how: "random": a task leaves out one domain at random; "all": the tasks of a meta-batch leave out one domain
            after another, N tasks for each batch of every domain, so that a meta-batch is a multiple of N (a task alone
            is a random split); "pooled": the query is all domains and the support one more batch of one of them, for a
            training without splits, which takes no inner step.

    Raises:
        ConfigError: for another `how`.
        DataError: if there are fewer than two domains, or not as many names.

    Example:
        >>> x, domain = torch.arange(6.0).reshape(6, 1), np.array([0, 0, 1, 1, 2, 2])
        >>> source = labelled_splits(x, x, domain, batch=2)
        >>> task = source.sample(np.random.default_rng(0))
        >>> task.support[0].shape, task.query[0].shape
        (torch.Size([4, 1]), torch.Size([2, 1]))

    References:
        Li et al. 2018 (arXiv:1710.03463), "random" as there; Guo et al. 2020 (arXiv:2003.07733), "all" as its figure.
    """

    draws: tuple[Draw, ...]
    names: tuple[str, ...]
    how: How = "random"

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ConfigError(f"splits are one of {', '.join(get_args(How))}, got {self.how!r}")
        if len(self.draws) < 2:
            raise DataError(
                f"domains are split into those that train and one that is left out, and there are {len(self.draws)} "
                f"({', '.join(self.names) or 'none'}); give at least 2"
            )
        if len(self.names) != len(self.draws):
            raise DataError(f"{len(self.draws)} domains have {len(self.names)} names; give each one")

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one split; the support's domains are in random order."""
        order = rng.permutation(len(self.draws))
        batches = [self.draws[number](rng) for number in order]
        if self.how == "pooled":
            return Task(self.draws[order[0]](rng), _joined(batches))
        return Task(_joined(batches[1:]), batches[0])

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task for each generator; with "all" those of N generators share one batch of every domain.

        Raises:
            ConfigError: if "all" is asked for a number of tasks that is no multiple of N.
        """
        count = len(self.draws)
        if self.how != "all" or len(rngs) == 1:
            [tasks] = group_by_shape([self.sample(rng) for rng in rngs])
            return tasks
        if len(rngs) % count:
            raise ConfigError(
                f"splits='all' leaves out each of {count} domains once, and {len(rngs)} tasks are no multiple of that; "
                f"set training.meta_batch to {count}, or take splits='random'"
            )
        tasks = []
        for rng in rngs[::count]:
            batches = [draw(rng) for draw in self.draws]
            for out in range(count):  # the support begins with the next domain, another one for each split
                others = [batches[(out + i) % count] for i in range(1, count)]
                tasks.append(Task(_joined(others), batches[out]))
        [group] = group_by_shape(tasks)
        return group


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return the batches as one; what is no tensor is the same in all."""
    columns = zip(*batches, strict=True)
    return tuple(torch.cat(column) if isinstance(column[0], Tensor) else column[0] for column in columns)


def labelled_splits(
    x: Tensor,
    y: Tensor,
    domain: np.ndarray,
    *,
    batch: int,
    names: Sequence[str] | None = None,
    how: How = "random",
) -> DomainSplits:
    """Return splits of labelled samples of several domains: rows of tables, images, whatever a tensor holds.

    Args:
        x: `[M, ...]`, the samples.
        y: `[M, ...]`, classes or numbers to be predicted.
        domain: `[M]`, of which domain each sample is: words or numbers, none missing.
        batch: samples of each domain in a task, drawn without replacement.
        names: names of the domains in the order of their sorted values; by default these values.
        how: see `DomainSplits`.

    Raises:
        ConfigError: if `batch` is below 1.
        DataError: if samples or labels are no tensors, the lengths differ, a sample has no domain, or a domain has
            fewer samples than a batch.

    Example:
        >>> x = torch.randn(9, 4)
        >>> labelled_splits(x, x[:, 0], np.repeat(["day", "dusk", "night"], 3), batch=3).names
        ('day', 'dusk', 'night')
    """
    for what, given in (("samples", x), ("labels", y)):
        if not isinstance(given, Tensor):
            kind = f"{type(given).__module__}.{type(given).__qualname__}"
            raise DataError(f"{what} must be a tensor of torch, got {kind}; torch.as_tensor({what}) makes one")
    domain = np.asarray(domain)
    if not len(x) == len(y) == len(domain):
        raise DataError(f"{len(x)} samples have {len(y)} labels and {len(domain)} domains; give one of each to each")
    if batch < 1:
        raise ConfigError(f"a batch takes at least 1 sample of each domain, got {batch}")
    values, numbers = _numbered(domain)
    named = values if names is None else tuple(names)
    for sentence in told_alike("the domains", values, "they are two here; name them alike if they are one"):
        logger.warning("note: %s", sentence)
    rows = [np.flatnonzero(numbers == number) for number in range(len(values))]
    for name, own in zip(named, rows, strict=False):
        if len(own) < batch:
            raise DataError(
                f"domain {name!r} has {len(own)} samples and a batch takes {batch} of each; take a batch of at most "
                f"{len(own)}, or leave the domain out"
            )
    return DomainSplits(tuple(_Rows(x, y, own, batch) for own in rows), named, how)


def _numbered(domain: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the domains in the order of their values, as words, and the number of each sample's."""
    if domain.ndim != 1:
        raise DataError(f"the domains have shape {list(domain.shape)}; give one for each sample, [{len(domain)}]")
    of_each = domain.tolist()
    absent = [number for number, value in enumerate(of_each) if _is_absent(value)]
    if absent:
        told = f"sample {absent[0] + 1} has no domain, but {of_each[absent[0]]!r}"
        others = f" (and {len(absent) - 1} others)" if len(absent) > 1 else ""
        raise DataError(f"{told}{others}; name it, or leave the sample out")
    try:
        values, numbers = np.unique(domain, return_inverse=True)
    except TypeError as error:
        kinds = ", ".join(sorted({type(value).__name__ for value in of_each}))
        raise DataError(f"the domains are values of several types ({kinds}); make them one") from error
    return tuple(map(str, values)), numbers


def _is_absent(value: Any) -> bool:
    """Return whether a value is none: None, NaN, or a word that says so."""
    if isinstance(value, str):
        return is_missing(value.strip()) and value.strip().lower() not in LABELS
    return value is None or value != value


@dataclass(frozen=True, eq=False)
class _Rows:
    """Draw a batch of the rows of one domain."""

    x: Tensor
    y: Tensor
    rows: np.ndarray
    batch: int

    def __call__(self, rng: np.random.Generator) -> Batch:
        chosen = torch.from_numpy(rng.choice(self.rows, self.batch, replace=False))
        return self.x[chosen], self.y[chosen]
