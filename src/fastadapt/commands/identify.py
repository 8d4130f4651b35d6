"""`fastadapt identify GALLERY PROBE...`: the enrolled people whom each image is most like, by a run on faces."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from fastadapt.commands.verify import CAUTION, threshold_of, told_of
from fastadapt.data.files import complain, shown
from fastadapt.data.images.images import Fit
from fastadapt.data.images.tree import CLUTTER, SUFFIXES
from fastadapt.data.names import composed, told_alike
from fastadapt.errors import ConfigError, DataError
from fastadapt.faces.verification import cosines
from fastadapt.runs.face_run import load_face_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IdentifySettings:
    """Rank the people of a gallery by likeness to each image; whoever is below the threshold is not named."""

    gallery: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GALLERY")]
    """A folder with one image of each person, named after the person."""
    probes: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PROBE...")]
    """Images, each of one face that fills it."""
    run: Path = Path("runs/faces-mfr")
    """Folder of a trained run on faces."""
    top: int = 3
    """How many people are listed for each image."""
    threshold: float | None = None
    """A cosine above which a pair is called alike; by default what the run chose on its validation identities."""
    fit: Fit | None = None
    """What to do with an image that is not square; by default its centre is taken."""
    json: bool = False
    """Print JSON."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and rank."""
    settings = tyro.cli(IdentifySettings, args=list(argv), prog="fastadapt identify")
    if not settings.probes:
        raise ConfigError("there is nobody to look for: give at least one image after the gallery")
    if settings.top < 1:
        raise ConfigError(f"--top lists at least 1 person, got {settings.top}")
    people = enrolled(settings.gallery)
    run = load_face_run(settings.run)
    chosen = threshold_of(run, settings.threshold)
    made = run.embed_files([*people.values(), *settings.probes], settings.fit)
    told_apart(list(people), made[: len(people)])
    scores = cosines(made[len(people) :], made[: len(people)])
    names, answers = list(people), []
    for probe, row in zip(settings.probes, scores, strict=True):
        order = sorted(range(len(names)), key=lambda i: (-row[i], names[i]))[: settings.top]
        ranked = [{"person": names[i], "cosine": float(row[i]), "above_threshold": bool(row[i] > chosen["value"])}
                  for i in order]  # fmt: skip
        answers.append({"probe": str(probe), "ranked": ranked})
    if settings.json:
        print(json.dumps({"threshold": chosen, "run": run.name, "caution": CAUTION, "answers": answers}, indent=2))
        return 0
    print(f"{len(names)} people enrolled; threshold {chosen['value']:.3f} ({told_of(chosen)})")
    for answer in answers:
        print(sentence(answer))
    print(CAUTION)
    return 0


def sentence(answer: dict[str, Any]) -> str:
    """Return what is said of one image."""
    ranked = answer["ranked"]
    listed = ", ".join(f"{shown(each['person'])} {each['cosine']:.3f}" for each in ranked)
    if not ranked[0]["above_threshold"]:
        return f"{shown(answer['probe'])}: nobody is above the threshold; nearest are {listed}"
    return f"{shown(answer['probe'])}: possibly {shown(ranked[0]['person'])}; nearest are {listed}"


def enrolled(folder: Path) -> dict[str, Path]:
    """Return the image of each person in a folder, by name; a name is that of the file without its ending.

    Names that begin with a dot are no people, nor is what desktops leave.

    Raises:
        DataError: if the folder can't be read or has no image, a person has two, or images lie in folders within it.
    """
    try:
        there = [path for path in sorted(folder.iterdir()) if not _is_clutter(path)]
        files = [path for path in there if path.suffix.lower() in SUFFIXES and path.is_file()]
        inner = [path for path in there if path.is_dir() and any(_images_within(path))]
    except OSError as error:
        raise DataError(
            f"can't read the gallery {shown(folder)}: {error.strerror or error}; give a folder with an image of each "
            "person"
        ) from error
    problems = [
        f"{shown(path)} is a symbolic link that leads nowhere; remove it" for path in there if not path.exists()
    ]
    problems += [
        f"{shown(path)} is a folder with images, and whether it or they are named after people is open; put one image "
        "of each person into the gallery itself, named after the person"
        for path in inner
    ]
    if not files and not problems:
        raise DataError(
            f"the gallery {shown(folder)} has no image; put one of each person in it, named after the person"
        )
    people: dict[str, Path] = {}
    for path in files:
        name = composed(path.stem)
        if name in people:
            problems.append(f"{shown(name)!r} has two images, {people[name].name} and {path.name}; enrol one of each")
        people[name] = path
    if problems:
        raise complain(problems, shown(folder))
    for sentence in told_alike("the people", people, "these are two people here; enrol one image if they are one"):
        logger.warning("note: %s: %s", shown(folder), sentence)
    return people


def _is_clutter(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in CLUTTER


def _images_within(folder: Path) -> Iterator[Path]:
    inside = (path for path in folder.rglob("*") if not any(_is_clutter(Path(part)) for part in path.parts[1:]))
    return (path for path in inside if path.suffix.lower() in SUFFIXES)


def told_apart(names: Sequence[str], made: np.ndarray) -> None:
    """Refuse people who are enrolled with one picture: an answer could not be right for both.

    Args:
        names: of the people.
        made: the embedding of each.

    Raises:
        DataError: if there are such; they are named.
    """
    first: dict[bytes, str] = {}
    pairs = [(owner, name) for name, row in zip(names, made, strict=True)
             if (owner := first.setdefault(row.tobytes(), name)) != name]  # fmt: skip
    if pairs:
        listed = "; ".join(f"{shown(a)!r} and {shown(b)!r}" for a, b in pairs[:3])
        raise DataError(f"one picture is enrolled for two people, {listed}; enrol each with a picture of their own")
