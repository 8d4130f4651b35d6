"""Which identities of several domains are one person, by their names and by pictures that are equal, and their parts.

An identity is a folder of one domain, `studio/anna`. Who is met in training must be met in no other part, so that
identities of one person are kept in one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastadapt.data.domains.shards import Shards
from fastadapt.data.files import shown
from fastadapt.data.names import composed, told_alike

SameNames = Literal["ask", "person", "apart"]
_CHUNK = 4096
_NAMED = 3


@dataclass(frozen=True)
class People:
    """Hold who is who.

    Args:
        person: `[I]`, the number of each identity's person; identities of one person have one number.
        copies: numbers of images that equal an earlier one of the same identity.
        problems: a sentence for each thing that leaves open who is who.
        notes: a sentence for what is to be known.
    """

    person: np.ndarray
    copies: list[int]
    problems: list[str]
    notes: list[str]

    @property
    def linked(self) -> bool:
        """Whether anything is held together that would stand apart."""
        return bool(self.copies) or len(np.unique(self.person)) < len(self.person)


def find_people(
    images: np.ndarray | Shards,
    identity: np.ndarray,
    names: Sequence[str],
    identity_names: Sequence[str],
    identity_domain: np.ndarray,
    same_names: SameNames = "ask",
) -> People:
    """Return which identities are one person.

    Args:
        images: `[M, S, S]`, uint8.
        identity: `[M]`, numbers into `identity_names`.
        names: `[M]`, what each image is called.
        identity_names: names, of which what follows the last slash is that of the person.
        identity_domain: `[I]`, the number of each identity's domain.
        same_names: whether a name that stands in several domains is one person in all of them, or names are apart;
            "ask" leaves it open, which is a problem if there are such.

    Example:
        >>> images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1) * np.ones((1, 2, 2), np.uint8)
        >>> identity, domain = np.arange(4), np.array([0, 0, 1, 1])
        >>> names = ["day/ann", "day/bob", "dusk/ann", "dusk/cy"]
        >>> find_people(images, identity, "abcd", names, domain, "person").person.tolist()
        [0, 1, 0, 3]
    """
    person = np.arange(len(identity_names))
    problems: list[str] = []
    notes: list[str] = []
    own = [composed(name.rsplit("/", 1)[-1]) for name in identity_names]
    shared = _in_several_domains(own, identity_domain)
    if shared and same_names == "ask":
        problems.append(_undecided(shared, identity_names))
    if shared and same_names == "person":
        notes.append(f"{_counted(shared)} in several domains, as one person each, who is kept in one part")
        for numbers in shared.values():
            _join(person, numbers)
    copies: list[int] = []
    pictures: list[str] = []
    for rows in _equal(images):
        there = {int(identity[row]): row for row in reversed(rows)}  # the first image of each
        copies += [row for row in rows if there[int(identity[row])] != row]
        if len(there) == 1:
            continue
        listed = " and ".join(shown(names[row]) for row in sorted(there.values())[:_NAMED])
        if len(set(identity_domain[list(there)].tolist())) < len(there):
            problems.append(f"{listed} are one picture of two people; keep it with one of them")
            continue
        if len(set(person[list(there)].tolist())) > 1:
            pictures.append(listed)
        _join(person, list(there))
    blank = [row for row, image in _each(images) if image.min() == image.max()]
    if blank:
        told = f"{len(blank)} image{'s are' if len(blank) > 1 else ' is'} blank, such as {shown(names[blank[0]])}"
        notes.append(f"{told}: all pixels are equal, and there is nobody to be seen; remove what is blank")
    if copies:
        first = shown(names[copies[0]])
        notes.append(f"{len(copies)} images equal another of the same person, such as {first}; each is used once")
    if pictures:
        told = f"{len(pictures)} pictures stand in several domains under people of their own, such as {pictures[0]}"
        notes.append(f"{told}; these are taken for one person, who is kept in one part")
    notes += _alike(own, identity_domain, apart=same_names == "apart")
    return People(person, copies, problems, notes)


def divided(domain: np.ndarray, seed: int, person: np.ndarray | None = None) -> np.ndarray:
    """Return the part of each identity, 0 trains, 1 validates, 2 tests: 60 %, 15 % and the rest.

    So it is in each domain for those who are met in it alone, and once for those who are met in several.

    Args:
        domain: `[I]`, the domain of each identity.
        seed: another seed is another division.
        person: `[I]`, the person of each; None where each is one of their own.

    Example:
        >>> np.bincount(divided(np.zeros(20, dtype=int), 0)).tolist()
        [12, 3, 5]
        >>> divided(np.array([0, 0, 1, 1]), 0, np.array([0, 1, 0, 1])).tolist()
        [0, 2, 0, 2]
    """
    rng = np.random.default_rng(seed)
    part = np.full(len(domain), 2)
    person = np.arange(len(domain)) if person is None else person
    linked = np.bincount(person, minlength=len(domain))[person] > 1
    groups = [[[number] for number in np.flatnonzero((domain == d) & ~linked).tolist()] for d in np.unique(domain)]
    groups.append([np.flatnonzero(person == each).tolist() for each in np.unique(person[linked])])
    for people in filter(None, groups):
        order = rng.permutation(len(people))
        train, val = round(0.6 * len(people)), round(0.15 * len(people))
        for place, number in enumerate(order):
            part[people[number]] = 0 if place < train else 1 if place < train + val else 2
    return part


def divides(part: np.ndarray, person: np.ndarray, identity_names: Sequence[str]) -> list[str]:
    """Return a sentence if a division that was given has one person in two parts."""
    both = [numbers for each in np.unique(person) if len(set(part[numbers := np.flatnonzero(person == each)])) > 1]
    if not both:
        return []
    listed = " and ".join(shown(identity_names[number]) for number in both[0].tolist()[:_NAMED])
    told = f"{len(both)} people are in two parts of the pack's own division, such as {listed}"
    return [f"{told}; who trains must not be tested on: give each person one part in identity_split"]


def _join(person: np.ndarray, numbers: Sequence[int]) -> None:
    """Make the people of some identities one."""
    person[np.isin(person, person[numbers])] = person[numbers].min()


def _in_several_domains(own: Sequence[str], domain: np.ndarray) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, name in enumerate(own):
        found.setdefault(name, []).append(number)
    return {name: numbers for name, numbers in found.items() if len(set(domain[numbers].tolist())) > 1}


def _counted(shared: dict[str, list[int]]) -> str:
    many = len(shared) > 1
    examples = ", ".join(repr(shown(name)) for name in list(shared)[:_NAMED])
    return f"{len(shared)} name{'s' * many} ({examples}{', ...' * (len(shared) > _NAMED)}) stand{'s' * (not many)}"


def _undecided(shared: dict[str, list[int]], identity_names: Sequence[str]) -> str:
    name, numbers = next(iter(shared.items()))
    where = " and ".join(shown(identity_names[number]) for number in numbers[:_NAMED])
    return (
        f"{_counted(shared)} in several domains, such as {where}, and whether {shown(name)!r} is one person is open; "
        "say --data.same-names person to keep a name in one part, or --data.same-names apart if names are not people"
    )


def _each(images: np.ndarray | Shards) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, len(images), _CHUNK):
        yield from enumerate(images[first : first + _CHUNK], first)


def _equal(images: np.ndarray | Shards) -> list[list[int]]:
    """Return the numbers of images that are equal; blank ones show nobody, and are none."""
    found: dict[bytes, list[int]] = {}
    for row, image in _each(images):
        if image.min() < image.max():
            told = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
            found.setdefault(told, []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def _alike(own: Sequence[str], domain: np.ndarray, *, apart: bool) -> list[str]:
    """Return a sentence on people whose names look alike, where names are apart those of one domain."""
    then = "these are two people here; name them alike if they are one"
    if not apart:
        return told_alike("the people", own, then)
    inside = [[name for name, at in zip(own, domain, strict=True) if at == each] for each in np.unique(domain)]
    return [sentence for some in inside for sentence in told_alike("the people", some, then)]
