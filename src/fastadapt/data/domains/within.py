"""Domains as tasks: support and query are different samples of one domain, so that a learner adapts to domains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.domains.face_pairs import pairs_of
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import FaceSet, Part
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Task

Both = Callable[[np.random.Generator], tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class DomainTasks:
    """Draw tasks of one domain each.

    Args:
        draws: for each domain a function of a generator that returns support and query.
        names: what the domains are called.
    """

    draws: tuple[Both, ...]
    names: tuple[str, ...]

    def sample(self, rng: np.random.Generator) -> Task:
        """Return a task of a domain at random."""
        return Task(*self.draws[int(rng.integers(len(self.draws)))](rng))


def labelled_within(
    x: Tensor,
    y: Tensor,
    domain: np.ndarray,
    *,
    support: int,
    query: int,
    labels: bool = True,
) -> DomainTasks:
    """Return tasks of labelled samples within domains; without `labels` the support is inputs alone.

    Args:
        x: `[M, ...]`, the samples.
        y: `[M, ...]`, their labels.
        domain: `[M]`, of which domain each is.
        support: samples to adapt on.
        query: other samples of the domain, to be judged on.
        labels: whether the support has labels.

    Raises:
        ConfigError: if there is nothing to adapt or be judged on.
        DataError: if a domain has too few samples.

    Example:
        >>> tasks = labelled_within(torch.eye(6), torch.arange(6), np.arange(6) // 3, support=2, query=1, labels=False)
        >>> task = tasks.sample(np.random.default_rng(0))
        >>> task.support.shape, task.query[1].shape
        (torch.Size([2, 6]), torch.Size([1]))
    """
    if support < 1 or query < 1:
        raise ConfigError(f"a task has at least 1 sample to adapt on and 1 to be judged on, got {support} and {query}")
    values = np.unique(domain)
    draws = []
    for value in values:
        rows = np.flatnonzero(np.asarray(domain) == value)
        if len(rows) < support + query:
            raise DataError(
                f"domain {str(value)!r} has {len(rows)} samples, and a task takes {support} + {query}; take fewer, or "
                "leave it out"
            )
        draws.append(_Samples(x, y, rows, support, query, labels))
    return DomainTasks(tuple(draws), tuple(map(str, values)))


@dataclass(frozen=True, eq=False)
class _Samples:
    x: Tensor
    y: Tensor
    rows: np.ndarray
    support: int
    query: int
    labels: bool

    def __call__(self, rng: np.random.Generator) -> tuple[Any, Any]:
        chosen = torch.from_numpy(rng.permutation(self.rows)[: self.support + self.query])
        ours, theirs = chosen[: self.support], chosen[self.support :]
        own = (self.x[ours], self.y[ours]) if self.labels else self.x[ours]
        return own, (self.x[theirs], self.y[theirs])


def pairs_within(
    faces: FaceSet,
    domains: Sequence[str],
    part: Part,
    *,
    recipe: FaceRecipe,
    support: int,
    query: int,
    flip: bool = False,
    shift: int = 0,
) -> DomainTasks:
    """Return tasks of pairs of faces within domains; no identity of the support is in the query.

    Args:
        faces: the faces.
        domains: which domains.
        part: whose identities.
        recipe: how pixels become an input.
        support: identities to adapt on, with two images each.
        query: other identities, to be judged on.
        flip: mirror images by chance.
        shift: shift them by up to so many pixels.

    Returns:
        Tasks whose sides are `(x, y, B)` as those of `pair_splits`, of one domain.

    Raises:
        DataError: if a domain has too few identities with two images.
    """
    draws = []
    for domain in domains:
        people = faces.people([domain], [part], least=2)
        if len(people) < support + query or min(support, query) < 2:
            raise DataError(
                f"domain {domain!r} has {len(people)} {part} identities with two images or more, and a task takes "
                f"{support} + {query}, at least 2 of each; take fewer, or leave it out"
            )
        draws.append(_People(faces, people, recipe, support, query, flip, shift))
    return DomainTasks(tuple(draws), tuple(domains))


@dataclass(frozen=True, eq=False)
class _People:
    faces: FaceSet
    people: np.ndarray
    recipe: FaceRecipe
    support: int
    query: int
    flip: bool
    shift: int

    def __call__(self, rng: np.random.Generator) -> tuple[Any, Any]:
        people = rng.permutation(self.people)[: self.support + self.query]
        ours, theirs = people[: self.support], people[self.support :]
        settings: dict[str, Any] = {"flip": self.flip, "shift": self.shift}
        return (
            pairs_of(self.faces, ours, self.recipe, rng, **settings),
            pairs_of(self.faces, theirs, self.recipe, rng, **settings),
        )
