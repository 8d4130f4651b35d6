"""`fastadapt adapt RUN DATA --out FOLDER` of a run on faces: fine-tune it on a few people of a new domain."""

import logging
from pathlib import Path

import numpy as np

from fastadapt.atomic import write_text
from fastadapt.data.domains.face_image import read_face
from fastadapt.data.domains.face_pairs import pairs_of
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.domains.people import find_people
from fastadapt.data.files import complain, shown
from fastadapt.data.images.images import Fit
from fastadapt.data.images.tree import scan_tree
from fastadapt.errors import DataError
from fastadapt.faces.objectives import PairLoss
from fastadapt.methods.to_domain import fine_tuned
from fastadapt.rules.rules import SGD
from fastadapt.runs.face_run import as_face_run
from fastadapt.runs.run_files import LoadedRun, export_learner

logger = logging.getLogger(__name__)

STEPS = 60
"""Steps where none are asked for."""
RATE = 0.05
FEW = 10
"""People below which a note is given."""


def run(
    loaded: LoadedRun, folder: Path, out: Path, *, steps: int | None, shots: int | None, fit: Fit | None, seed: int = 0
) -> int:
    """Fine-tune on two images of each person in every step, write the adapted run, and return the exit code.

    Args:
        loaded: the trained run.
        folder: a sub-folder of images for each person.
        out: where the adapted run is written.
        steps: gradient steps; None takes 60.
        shots: images of each person, the first by name; None takes all.
        fit: what becomes of an image that is not square; None crops its centre.
        seed: of the pairs that are drawn.
    """
    data = loaded.config.data
    assert isinstance(data, FacesData)
    faces = people_of(folder, data.pixels, shots, fit)
    everyone = np.arange(len(faces.identity_names))
    model = as_face_run(loaded).model
    settings = {"flip": data.flip, "shift": data.shift}
    tuned = fine_tuned(
        model,
        PairLoss(alignment=0.0),
        lambda step: pairs_of(faces, everyone, data.recipe, np.random.default_rng((seed, step)), **settings),
        steps=STEPS if steps is None else steps,
        rule=SGD(RATE),
    )
    model.load_state_dict(tuned.state_dict())
    export_learner(out, loaded.config, loaded.learner.state_dict(), loaded.step)
    write_text(out / "config.json", loaded.config.to_json() + "\n")
    taken = STEPS if steps is None else steps
    print(f"adapted {shown(loaded.name)} to {len(everyone)} people, {len(faces.images)} images, in {taken} steps")
    if len(everyone) < FEW:
        print(f"note: {FEW} people or more are advised; {len(everyone)} may tell more of themselves than of the domain")
    print("note: these people are no test of it: measure it on others of the domain")
    print(f"note: its threshold is to be chosen anew: fastadapt evaluate {shown(out)}, or verify --threshold")
    print(f"wrote {shown(out)}")
    return 0


def people_of(folder: Path, pixels: int, shots: int | None = None, fit: Fit | None = None) -> FaceSet:
    """Return the people in the sub-folders of a folder, two images or more of each, as one domain.

    Raises:
        DataError: if there are fewer than two people, one has fewer than two images, or an image can't be used.
    """
    tree = scan_tree(folder)
    images, identity, gallery, names = [], [], [], []
    problems = [] if len(tree.classes) > 1 else [
        f"{shown(folder)} has {len(tree.classes)} folders with images, and two people or more are needed, a folder each"
    ]  # fmt: skip
    problems += [finding.text for finding in tree.findings if finding.refused]
    for number, (person, files) in enumerate(tree.classes.items()):
        if min(len(files), shots or len(files)) < 2:
            problems.append(f"{person!r} has too few images to make a pair; give two or more of each person")
            continue
        for place, file in enumerate(files[:shots]):
            try:
                images.append(read_face(file, pixels, "crop" if fit is None else fit))
            except DataError as error:
                problems.append(str(error))
                continue
            identity.append(number)
            gallery.append(place == 0)
            names.append(tree.name(file))
    if problems:
        raise complain(problems, shown(folder))
    count = len(tree.classes)
    found = find_people(np.stack(images), np.array(identity), names, tuple(tree.classes), np.zeros(count), "apart")
    kept = np.setdiff1d(np.arange(len(images)), found.copies)
    left = np.bincount(np.array(identity)[kept], minlength=count)
    problems = [*found.problems, *(f"{person!r} has one picture, and its copies; give two or more of each person"
                                   for person, many in zip(tree.classes, left, strict=True) if many < 2)]  # fmt: skip
    if problems:
        raise complain(problems, shown(folder))
    for sentence in found.notes:
        logger.warning("note: %s: %s", shown(folder), sentence)
    return FaceSet(
        np.stack(images)[kept],
        np.array(identity)[kept],
        np.array(gallery)[kept],
        tuple(names[row] for row in kept),
        tuple(tree.classes),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
        (folder.name,),
    )
