"""`fastadapt check FOLDER --faces`: who is in which domain and part, and what training would refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from fastadapt.arguments import argument
from fastadapt.data.domains.face_files import read_faces
from fastadapt.data.domains.face_set import PARTS, FaceSet
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.domains.people import SameNames
from fastadapt.data.files import shown
from fastadapt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class CheckFacesSettings:
    """Read faces in domain/identity/image or in a pack, and say who is met where and what training would refuse."""

    folder: tyro.conf.Positional[Path]
    """The folder or pack."""
    faces: bool = False
    """Take the folder for faces."""
    same_names: Annotated[SameNames, tyro.conf.arg(name="data.same-names")] = FacesData.same_names
    """A name in several domains is one person, whose identities are kept in one part, or names are apart."""
    pixels: int = argument(read_faces, "pixels")
    split_seed: Annotated[int, tyro.conf.arg(name="data.split-seed")] = FacesData.split_seed
    """Seed of the division of identities of folders; a pack has its own."""


def is_asked_for(argv: Sequence[str]) -> bool:
    """Return whether the words after `check` speak of faces."""
    return "--faces" in argv


def main(argv: Sequence[str]) -> int:
    """Parse the command line, look, and return 1 if training would refuse the faces."""
    settings = tyro.cli(CheckFacesSettings, args=list(argv), prog="fastadapt check")
    try:
        faces = read_faces(
            settings.folder, pixels=settings.pixels, seed=settings.split_seed, same_names=settings.same_names
        )
    except DataError as error:
        print(f"training would refuse these faces: {error}")
        return 1
    print("\n".join([f"{shown(settings.folder)}: {told(faces)}", "", *domains(faces)]))
    return 0


def told(faces: FaceSet) -> str:
    """Return how many faces of how many people there are."""
    people = len(faces.identity_names) if faces.person is None else len(np.unique(faces.person))
    return f"{len(faces.images):,} images of {people:,} people in {len(faces.domain_names)} domains"


def domains(faces: FaceSet) -> list[str]:
    """Return a line for each domain: its people, and how many of them are in each part."""
    lines = []
    for name in faces.domain_names:
        counts = [f"{len(faces.people([name], [part]))} {part}" for part in PARTS]
        elsewhere = len(faces.met(name, [other for other in faces.domain_names if other != name], PARTS))
        met = f"; {elsewhere} of them in other domains too" if elsewhere else ""
        lines.append(f"  {shown(name)}: {len(faces.people([name]))} people ({', '.join(counts)}){met}")
    return lines
