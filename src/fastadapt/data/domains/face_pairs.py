"""Pairs of faces of each domain: so many identities with two images each, gallery and probe."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fastadapt.data.domains.face_recipe import FaceRecipe, moved
from fastadapt.data.domains.face_set import FaceSet, Part
from fastadapt.data.domains.splits import Batch, DomainSplits, How
from fastadapt.errors import ConfigError, DataError


def pair_splits(
    faces: FaceSet,
    domains: Sequence[str],
    part: Part,
    *,
    recipe: FaceRecipe,
    batch: int = 8,
    how: How = "random",
    flip: bool = False,
    shift: int = 0,
) -> DomainSplits:
    """Return splits of domains of faces as tasks of pairs.

    In a task each domain has `B` identities with two different images each. With `D` domains a side of the task is
    `(x, y, B)`: `x: [D 2 B, 1, S, S]`, domain by domain, in each first the gallery and then the probes, and
    `y: [D 2 B]`, numbers of the people among all that train in these domains, -1 for those of another part.

    Args:
        faces: the faces.
        domains: which domains; no other is ever touched.
        part: whose identities: "train", "val" or "test".
        recipe: how pixels become an input.
        batch: identities B of each domain.
        how: see `DomainSplits`.
        flip: mirror images by chance.
        shift: shift them by up to so many pixels.

    Raises:
        ConfigError: if B is below 2.
        DataError: if a domain has fewer than B such identities with two images.
    """
    if batch < 2:
        raise ConfigError(f"a batch has at least 2 identities of each domain to tell apart, got {batch}")
    everyone = faces.people(domains, ["train"], least=2)
    number = np.full(len(faces.identity_names), -1, dtype=np.int64)
    number[everyone] = faces.classes(everyone)
    draws = []
    for domain in domains:
        people = faces.people([domain], [part], least=2)
        if len(people) < batch:
            raise DataError(
                f"domain {domain!r} has {len(people)} {part} identities with two images or more, and a batch takes "
                f"{batch}; take a batch of at most {len(people)}, or leave the domain out"
            )
        draws.append(_Pairs(faces, people, number, recipe, batch, flip, shift))
    return DomainSplits(tuple(draws), tuple(domains), how)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Draw identities of one domain, two images each."""

    faces: FaceSet
    people: np.ndarray
    number: np.ndarray
    recipe: FaceRecipe
    batch: int
    flip: bool
    shift: int

    def __call__(self, rng: np.random.Generator) -> Batch:
        people = rng.choice(self.people, self.batch, replace=False)
        x, _, count = pairs_of(self.faces, people, self.recipe, rng, flip=self.flip, shift=self.shift)
        return x, torch.from_numpy(np.tile(self.number[people], 2)), count


def pairs_of(
    faces: FaceSet, people: np.ndarray, recipe: FaceRecipe, rng: np.random.Generator, *, flip: bool, shift: int
) -> Batch:
    """Return `(x, y, B)`: two different images of each of B identities of one domain, numbered 0..B-1.

    Args:
        faces: the faces.
        people: the identities.
        recipe: how pixels become an input.
        rng: where chance comes from.
        flip: mirror images by chance.
        shift: shift them by up to so many pixels.
    """
    pairs = np.stack([rng.choice(faces.rows[person], 2, replace=False) for person in people])
    rows = pairs.T.reshape(-1)  # the gallery of all, then the probes of all
    x = moved(recipe.prepare(faces.images[rows]), rng, flip, shift)
    return x, torch.from_numpy(np.tile(np.arange(len(people)), 2)), len(people)
