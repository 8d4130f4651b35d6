"""Faces of several domains: which images there are, of whom, and who trains, validates and tests."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fastadapt.data.domains.shards import Shards
from fastadapt.data.names import composed
from fastadapt.errors import DataError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
CHUNK = 4096
"""Images at a time, as there may be more than memory holds."""


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Hold grey images of identities that belong to one domain each.

    Args:
        images: `[M, S, S]`, uint8; an array, or what gives rows of one, see `fastadapt.data.domains.shards`.
        identity: `[M]`, numbers into `identity_names`.
        gallery: `[M]`, bool; true for exactly one image of each identity, its enrolment.
        names: `[M]`, what each image is called.
        identity_names: names of the identities.
        identity_domain: `[I]`, numbers into `domain_names`.
        identity_part: `[I]`, 0 trains, 1 validates, 2 tests.
        domain_names: names of the domains.
        person: `[I]`, the number of each identity's person, one for all identities of one person; None where each
            identity is a person of its own.

    Raises:
        DataError: if these do not fit together.
    """

    images: np.ndarray | Shards
    identity: np.ndarray
    gallery: np.ndarray
    names: tuple[str, ...]
    identity_names: tuple[str, ...]
    identity_domain: np.ndarray
    identity_part: np.ndarray
    domain_names: tuple[str, ...]
    person: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, people = len(self.images), len(self.identity_names)
        if self.images.ndim != 3 or self.images.dtype != np.uint8 or self.images.shape[1] != self.images.shape[2]:
            raise DataError(f"faces are [M, S, S] of uint8, got {self.images.shape} of {self.images.dtype}")
        for name, size in (("identity", count), ("gallery", count), ("names", count)):
            if len(getattr(self, name)) != size:
                raise DataError(f"{count} faces have {len(getattr(self, name))} entries of {name}; give one each")
        for name in ("identity_domain", "identity_part", *(("person",) if self.person is not None else ())):
            if len(getattr(self, name)) != people:
                raise DataError(f"{people} identities have {len(getattr(self, name))} entries of {name}; give one each")
        for name, numbers, most in (
            ("identity", self.identity, people),
            ("identity_domain", self.identity_domain, len(self.domain_names)),
            ("identity_part", self.identity_part, len(PARTS)),
        ):
            if len(numbers) and not (int(numbers.min()) >= 0 and int(numbers.max()) < most):
                raise DataError(
                    f"{name} has numbers in {numbers.min()}..{numbers.max()}, and only 0..{most - 1} mean one"
                )
        enrolled = np.bincount(self.identity[self.gallery], minlength=people)
        if (enrolled != 1).any():
            number = int(np.flatnonzero(enrolled != 1)[0])
            raise DataError(
                f"identity {self.identity_names[number]!r} has {enrolled[number]} gallery images; mark exactly one"
            )

    @property
    def side(self) -> int:
        """Height and width of an image in pixels."""
        return self.images.shape[1]

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """The images of each identity."""
        order = np.argsort(self.identity, kind="stable")
        return np.split(order, np.searchsorted(self.identity[order], np.arange(1, len(self.identity_names))))

    @cached_property
    def digest(self) -> str:
        """A digest of the images and of who is on them."""
        facts = hashlib.sha256()
        for first in range(0, len(self.images), CHUNK):
            facts.update(np.ascontiguousarray(self.images[first : first + CHUNK]).tobytes())
        for part in (self.identity, self.gallery, self.identity_domain, self.identity_part):
            facts.update(np.ascontiguousarray(part).astype(np.int64).tobytes())
        return facts.hexdigest()[:16]

    def domain_numbers(self, names: Iterable[str]) -> list[int]:
        """Return the numbers of the domains that are named.

        Raises:
            DataError: for a name that no domain has.
        """
        known = {composed(name): number for number, name in enumerate(self.domain_names)}
        names = [composed(name) for name in names]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(f"there is no domain {unknown[0]!r}; there are {', '.join(self.domain_names)}")
        return [known[name] for name in names]

    def people(self, domains: Sequence[str], parts: Sequence[Part] = PARTS, least: int = 1) -> np.ndarray:
        """Return the numbers of the identities of some domains and parts, with at least so many images each."""
        wanted = np.isin(self.identity_domain, self.domain_numbers(domains))
        wanted &= np.isin(self.identity_part, [PARTS.index(part) for part in parts])
        return np.flatnonzero(wanted & (np.bincount(self.identity, minlength=len(wanted)) >= least))

    def images_of(self, people: np.ndarray) -> np.ndarray:
        """Return the numbers of all images of some identities."""
        return np.flatnonzero(np.isin(self.identity, people))

    def classes(self, people: np.ndarray) -> np.ndarray:
        """Return numbers from 0 on for some identities, one for all identities of one person."""
        return np.unique(people if self.person is None else self.person[people], return_inverse=True)[1]

    def met(self, domain: str, domains: Sequence[str], parts: Sequence[Part] = ("train", "val")) -> np.ndarray:
        """Return the identities of a domain whose person is met in some parts of others: they are not new to a run."""
        if self.person is None:
            return np.array([], dtype=np.int64)
        own, others = self.people([domain]), self.people(domains, parts)
        return own[np.isin(self.person[own], self.person[np.setdiff1d(others, own)])]
