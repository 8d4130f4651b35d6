"""What a trained run on faces is measured by and used with: its embedding, its threshold, its results on disk."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fastadapt.atomic import write_text
from fastadapt.data.domains.face_image import read_face
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.files import complain, shown
from fastadapt.data.images.images import Fit
from fastadapt.errors import CheckpointError, ConfigError, DataError
from fastadapt.faces.measure import Pixels, embed, measured, threshold_on
from fastadapt.faces.protocol import FaceProtocol, Verification
from fastadapt.results.evaluation_json import json_values
from fastadapt.runs.run_files import LoadedRun, load_run

FILE = "verification.json"
"""The result of a run on faces, in its folder."""
FAR = 0.01
"""The false accept rate at which a run's threshold is chosen."""


@dataclass(frozen=True)
class FaceRun:
    """Hold a trained embedding of faces, and the threshold chosen on its validation identities.

    Args:
        model: the embedding, in evaluation mode.
        data: what it was trained on.
        name: the run's name.
        threshold: as `fastadapt.faces.measure.threshold_on` returns it; None where none was chosen.
    """

    model: nn.Module
    data: FacesData
    name: str
    threshold: dict[str, Any] | None

    def embed_files(self, files: Sequence[Path], fit: Fit | None = None) -> np.ndarray:
        """Return the embedding of each image file.

        Args:
            files: PNG, JPEG, WebP or GIF images, each of one face that fills it.
            fit: what becomes of an image that is not square; None crops its centre.

        Raises:
            DataError: if a file can't be used; all that can't are named.
        """
        pixels, problems = [], []
        for file in files:
            try:
                pixels.append(read_face(file, self.data.pixels, "crop" if fit is None else fit))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise complain(problems, "the list of images")
        return embed(self.model, np.stack(pixels), self.data.recipe)


def load_face_run(folder: Path) -> FaceRun:
    """Return a trained run on faces.

    Raises:
        ConfigError: if it is a run on something else.
        CheckpointError: if there is none, or it can't be read.
    """
    return as_face_run(load_run(folder), folder)


def as_face_run(loaded: LoadedRun, folder: Path | None = None) -> FaceRun:
    """Return a loaded run as one on faces, with the threshold in its folder, if that is given.

    Raises:
        ConfigError: if it is a run on something else.
        CheckpointError: if its result is there and can't be read.
    """
    data = loaded.config.data
    if not isinstance(data, FacesData):
        raise ConfigError(
            f"{loaded.name} is a run on {data.input['kind']}, and this is for faces; train one with "
            "fastadapt train faces-mfr"
        )
    threshold = None
    if folder is not None and (path := folder / FILE).is_file():
        try:
            threshold = json.loads(path.read_text(encoding="utf-8"))["threshold"]
            threshold = {**threshold, "value": float(threshold["value"])}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{shown(path)} can't be read: {error}; fastadapt evaluate writes it anew") from None
    model: Any = loaded.learner.model
    return FaceRun(model.eval(), data, loaded.name, threshold)


@dataclass(frozen=True)
class FaceResults:
    """Hold what was measured of a run: its threshold, and each domain with its controls.

    Args:
        threshold: chosen on validation identities of the domains that trained.
        targets: for each target, all of its identities whose person neither trains nor validates.
        home: for each domain that trained, its test identities.
        controls: the targets as raw pixels and an untrained network of the same kind tell them apart.
    """

    threshold: dict[str, Any]
    targets: list[Verification]
    home: list[Verification]
    controls: dict[str, list[Verification]]

    def lines(self) -> list[str]:
        """Return the results as lines a person can read."""
        found = self.threshold
        many = f"{found['identities']} validation identities, {found['impostors']} impostor pairs"
        lines = [f"threshold {found['value']:.3f}, chosen for a false accept rate of {found['far']:g} on {many}"]
        for title, results in (
            ("unseen", self.targets),
            *self.controls.items(),
            ("at home, test identities", self.home),
        ):
            for result in results:
                lines.append(f"{title}: {result}")
                if title == "unseen" and result.transferred:
                    rates = result.transferred
                    lines.append(
                        f"  with that threshold {100 * rates['true_accepts']:.1f} % of genuine pairs are accepted and "
                        f"{100 * rates['false_accepts']:.2f} % of impostors, which no longer is "
                        f"{100 * found['far']:g} %: a threshold does not travel unchanged"
                    )
        return lines

    def to_plain(self) -> dict[str, Any]:
        """Return the results for JSON."""
        return {
            "threshold": self.threshold,
            "targets": [result.to_plain() for result in self.targets],
            "home": [result.to_plain() for result in self.home],
            "controls": {name: [result.to_plain() for result in some] for name, some in self.controls.items()},
        }


def measure_run(
    model: nn.Module,
    untrained: Callable[[], nn.Module],
    data: FacesData,
    faces: FaceSet,
    protocol: FaceProtocol | None = None,
) -> FaceResults:
    """Return the results of a trained embedding, with the controls that belong beside them.

    Args:
        model: the embedding, in evaluation mode.
        untrained: makes a network of the same kind with fresh weights.
        data: what it was trained on.
        faces: the faces.
        protocol: how to measure.
    """
    recipe: FaceRecipe = data.recipe
    chosen = threshold_on(model, faces, recipe, data.domains, far=FAR)
    fresh = untrained().eval()

    def on(net: nn.Module, domains: Sequence[str], **more: Any) -> list[Verification]:
        return [measured(net, faces, recipe, domain, protocol=protocol, **more) for domain in domains]

    def unseen(net: nn.Module, **more: Any) -> list[Verification]:
        """Measure the targets on people who neither train nor validate."""
        met = {target: faces.met(target, data.domains) for target in data.targets}
        return [found for target in met for found in on(net, [target], without=met[target], **more)]

    home = [domain for domain in data.domains if len(faces.people([domain], ["test"])) > 1]
    return FaceResults(
        chosen,
        unseen(model, threshold=chosen["value"]),
        on(model, home, parts=["test"], threshold=chosen["value"]),
        {"raw pixels": unseen(Pixels()), "untrained": unseen(fresh)},
    )


def save_results(path: Path, step: int, results: FaceResults) -> None:
    """Write the results of the weights of a step as JSON.

    Raises:
        CheckpointError: if they can't be written.
    """
    write_text(path, json.dumps(json_values({"step": step, **results.to_plain()}), indent=1) + "\n")
