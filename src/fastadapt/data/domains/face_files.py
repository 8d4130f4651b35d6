"""Faces from files: a pack in one .npz, or a tree of folders `domain/identity/image`."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.domains.face_image import read_face
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.shards import PEOPLE, Shards, read_shards
from fastadapt.data.download import data_folders
from fastadapt.data.files import complain, shown
from fastadapt.data.images.tree import scan_tree, without_classes
from fastadapt.errors import DataError

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


def read_faces(place: Path, *, pixels: int = 64, seed: int = 2020) -> FaceSet:
    """Return the faces of a pack or of a tree of folders.

    Args:
        place: a .npz file; a folder with the pack, itself or in `faces/`, or with a pack in shards; or a folder
            `domain/identity/image`.
        pixels: side to which the images of a tree are brought; a pack has its own.
        seed: of the division of a tree's identities into those that train (60 %), validate (15 %) and test, in each
            domain; a pack has its own.

    Raises:
        DataError: if there is no such thing, or it can't be used; one sentence says why.
    """
    place = Path(place)
    if (place / PEOPLE).is_file():
        return read_pack(place / PEOPLE, read_shards(place))
    for pack in (place, place / PACK, place / "faces" / PACK):
        if pack.is_file():
            return read_pack(pack)
    return read_tree(place, pixels=pixels, seed=seed)


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


def read_pack(path: Path, shards: Shards | None = None) -> FaceSet:
    """Return the faces of a pack: arrays in a .npz file, without pickles; the pixels may lie in shards beside it.

    Raises:
        DataError: if it can't be read, or lacks an array.
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
    return faces


def read_tree(folder: Path, *, pixels: int, seed: int) -> FaceSet:
    """Return the faces of a tree `domain/identity/image`; the first image of each by name is its enrolment.

    Raises:
        DataError: if the tree is of another form, or an image can't be used; all that can't are named.
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
    domains = sorted({name.split("/")[0] for name in people})
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
    domain = np.array([domains.index(name.split("/")[0]) for name in people])
    return FaceSet(
        np.stack(images),
        np.array(identity),
        np.array(gallery),
        tuple(names),
        tuple(people),
        domain,
        divided(domain, seed),
        tuple(domains),
    )


def divided(domain: np.ndarray, seed: int) -> np.ndarray:
    """Return the part of each identity, 0 trains, 1 validates, 2 tests: in each domain 60 %, 15 % and the rest.

    Example:
        >>> np.bincount(divided(np.zeros(20, dtype=int), 0)).tolist()
        [12, 3, 5]
    """
    rng = np.random.default_rng(seed)
    part = np.full(len(domain), 2)
    for each in np.unique(domain):
        people = rng.permutation(np.flatnonzero(domain == each))
        train, val = round(0.6 * len(people)), round(0.15 * len(people))
        part[people[:train]] = 0
        part[people[train : train + val]] = 1
    return part
