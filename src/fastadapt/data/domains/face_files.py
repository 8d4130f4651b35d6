"""Faces from files: a pack in one .npz, or a tree of folders `domain/identity/image`."""

import logging
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.domains.face_image import read_face
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.people import People, SameNames, divided, divides, find_people
from fastadapt.data.domains.shards import PEOPLE, Shards, read_shards
from fastadapt.data.download import data_folders
from fastadapt.data.files import complain, shown
from fastadapt.data.images.tree import scan_tree, without_classes
from fastadapt.data.names import composed, told_alike
from fastadapt.errors import DataError

logger = logging.getLogger(__name__)

PACK = "faces64.npz"
"""What the pack in a data folder is called."""
_ARRAYS = (
    "images",
    "domain",
    "identity",
    "gallery",
    "name",
    "domain_names",
    "identity_names",
    "identity_domain",
    "identity_split",
)


def read_faces(
    place: Path, *, pixels: int = 64, seed: int = 2020, same_names: SameNames = "ask", before: bool = False
) -> FaceSet:
    """Return the faces of a pack or of a tree of folders; a person of several domains is in one part.

    Who is one person is told by the names of folders, see `same_names`, and by pictures that are equal. One picture of
    two people of a domain is refused, and one twice of a person is used once.

    Args:
        place: a .npz file; a folder with the pack, itself or in `faces/`, or with a pack in shards; or a folder
            `domain/identity/image`.
        pixels: side to which the images of a tree are brought; a pack has its own.
        seed: of the division of a tree's identities into those that train (60 %), validate (15 %) and test, in each
            domain; a pack has its own.
        same_names: "person": a name that stands in several domains is one person, whose identities are kept in one
            part; "apart": each folder is a person of its own; "ask" refuses what has such names.
        before: read as it was when such people were not looked for, for a run of that time: what is refused otherwise
            is a warning, and everything is divided as it was then.

    Raises:
        DataError: if there is no such thing, it can't be used, or who is who is open; all that is wrong is said.
    """
    place = Path(place)
    if (place / PEOPLE).is_file():
        return read_pack(place / PEOPLE, read_shards(place), same_names=same_names, before=before)
    for pack in (place, place / PACK, place / "faces" / PACK):
        if pack.is_file():
            return read_pack(pack, same_names=same_names, before=before)
    return read_tree(place, pixels=pixels, seed=seed, same_names=same_names, before=before)


def find_faces() -> Path:
    """Return the pack in `FASTADAPT_DATA` or in the cache folder.

    Raises:
        DataError: if there is none; faces are not fetched for anybody.
    """
    places = data_folders("faces")
    for place in places:
        if (place / PACK).is_file():
            return place
    raise DataError(
        f"there is no {PACK} in {' or '.join(map(shown, places))}; faces are not fetched for you: give --data a folder "
        "domain/identity/image, or a pack"
    )


def read_pack(
    path: Path, shards: Shards | None = None, *, same_names: SameNames = "ask", before: bool = False
) -> FaceSet:
    """Return the faces of a pack: arrays in a .npz file, without pickles; the pixels may lie in shards beside it.

    Raises:
        DataError: if it can't be read, lacks an array, or divides the identities of one person.
    """
    try:
        with np.load(path, allow_pickle=False) as pack:
            arrays: dict[str, Any] = {name: pack[name] for name in _ARRAYS if name in pack.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"can't read {shown(path)} as a pack of faces: {str(error).splitlines()[0]}") from error
    if shards is not None:
        arrays["images"] = shards
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"{shown(path)} is no pack of faces: it has no array {', '.join(missing)}")
    try:
        faces = FaceSet(
            images=arrays["images"],
            identity=arrays["identity"].astype(np.int64),
            gallery=arrays["gallery"].astype(bool),
            names=tuple(map(str, arrays["name"])),
            identity_names=tuple(map(str, arrays["identity_names"])),
            identity_domain=arrays["identity_domain"].astype(np.int64),
            identity_part=arrays["identity_split"].astype(np.int64),
            domain_names=tuple(map(str, arrays["domain_names"])),
        )
    except (DataError, TypeError, ValueError) as error:
        raise DataError(f"{shown(path)} is no pack of faces: {error}") from error
    if (faces.identity_domain[faces.identity] != arrays["domain"]).any():
        raise DataError(f"{shown(path)} has an image whose domain is not that of its identity")
    people = find_people(
        faces.images, faces.identity, faces.names, faces.identity_names, faces.identity_domain, same_names
    )
    people.problems.extend(divides(faces.identity_part, people.person, faces.identity_names))
    people.notes[:] = [note.replace("each is used once", "leave it out") for note in people.notes]  # a pack is as it is
    _settle(people, shown(path), before)
    return replace(faces, person=people.person) if people.linked and not before else faces


def _settle(people: People, where: str, before: bool) -> None:
    """Refuse what leaves open who is who, and say what is to be known."""
    if people.problems and not before:
        raise complain(people.problems, where)
    for sentence in people.problems:
        logger.warning("%s: %s (this run was made before that was looked for)", where, sentence)
    for sentence in people.notes:
        logger.warning("note: %s: %s", where, sentence)


def read_tree(folder: Path, *, pixels: int, seed: int, same_names: SameNames = "ask", before: bool = False) -> FaceSet:
    """Return the faces of a tree `domain/identity/image`; the first image of each by name is its enrolment.

    Raises:
        DataError: if the tree is of another form, an image can't be used, or who is who is open; all is named.
    """
    tree = scan_tree(folder)
    if not tree.classes:
        raise without_classes(tree)
    wrong = [name for name in tree.classes if name.count("/") != 1]
    if wrong:
        raise DataError(
            f"{shown(folder)} has images in {wrong[0]!r}, and faces lie in domain/identity/image: a folder for each "
            "domain, in it one for each person; move them"
        )
    people = sorted(tree.classes)
    domain_of = [composed(name.split("/")[0]) for name in people]
    domains = sorted(set(domain_of))
    images, identity, gallery, names = [], [], [], []
    problems = [finding.text for finding in tree.findings if finding.refused]
    for number, person in enumerate(people):
        for place, file in enumerate(tree.classes[person]):
            try:
                images.append(read_face(file, pixels))
            except DataError as error:
                problems.append(str(error))
                continue
            identity.append(number)
            gallery.append(place == 0)
            names.append(tree.name(file))
    if problems:
        raise complain(problems, shown(folder))
    domain = np.array([domains.index(name) for name in domain_of])
    found = find_people(np.stack(images), np.array(identity), names, people, domain, same_names)
    found.notes.extend(
        told_alike("the domains", domains, "these are two domains here; name them alike if they are one")
    )
    _settle(found, shown(folder), before)
    kept = np.arange(len(images)) if before else np.setdiff1d(np.arange(len(images)), found.copies)
    return FaceSet(
        np.stack(images)[kept],
        np.array(identity)[kept],
        np.array(gallery)[kept],
        tuple(names[row] for row in kept),
        tuple(people),
        domain,
        divided(domain, seed) if before else divided(domain, seed, found.person),
        tuple(domains),
        found.person if found.linked and not before else None,
    )
