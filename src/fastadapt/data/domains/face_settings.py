"""Faces of several domains as a setting of a run."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from fastadapt.arguments import added, argument, default_of
from fastadapt.data.domains.face_files import find_faces, read_faces
from fastadapt.data.domains.face_pairs import pair_splits
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import FaceSet, Part
from fastadapt.data.domains.people import SameNames
from fastadapt.data.domains.splits import DomainSplits, How
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, DataError
from fastadapt.losses import MSE, Loss
from fastadapt.tasks import TaskSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FacesData:
    """Faces in folders `domain/identity/image`, or in a pack: some domains train, others are only measured."""

    domains: tuple[str, ...] = ("gt", "imm", "yaleb", "sketch", "thermal")
    """Domains that train, validate and are tested at home."""
    targets: tuple[str, ...] = ("orl",)
    """Domains that are only measured, after the training."""
    batch: int = default_of(pair_splits, "batch")
    """Identities of each domain in a training task, two images each."""
    home_batch: int = 6
    """Identities of each domain in a task of validation and of the test at home."""
    splits: How = argument(DomainSplits, "how")
    pixels: int = default_of(FaceRecipe, "pixels")
    """Side to which images of folders are brought."""
    size: int = default_of(FaceRecipe, "size")
    """Side of what the network sees; pixels is a multiple of it."""
    contrast: bool = argument(FaceRecipe, "contrast")
    flip: bool = True
    """Mirror training images by chance."""
    shift: int = 2
    """Shift training images by up to so many pixels."""
    split_seed: int = default_of(read_faces, "seed")
    """Seed of the division of identities of folders; a pack has its own."""
    people: int = 0
    """People that train; found by the command."""
    folder: str = ""
    """The folder or pack, as it was named when the run began."""
    digest: str = ""
    """Digest of the images and of who is on them; found by the command."""
    same_names: SameNames = added("ask")
    """A name in several domains is one person, whose identities are kept in one part, or names are apart."""
    people_linked: bool = added(False)
    """Whether people of several domains, or copies of a picture, are held together; found by the command."""

    def __post_init__(self) -> None:
        both = [name for name in self.domains if name in self.targets]
        if both:
            raise ConfigError(
                f"domain {both[0]!r} trains and is a target; a target is measured as one that was never seen: leave it "
                "out of data.domains or of data.targets"
            )
        if self.batch < 2 or self.home_batch < 2:
            raise ConfigError(
                f"a batch has at least 2 identities of each domain to tell apart, got data.batch={self.batch} and "
                f"data.home_batch={self.home_batch}"
            )
        if self.shift < 0:
            raise ConfigError(f"data.shift counts pixels and must be >= 0, got {self.shift}")
        _ = self.recipe

    @property
    def recipe(self) -> FaceRecipe:
        """How pixels become an input."""
        return FaceRecipe(self.pixels, self.size, self.contrast)

    def of(self, faces: FaceSet) -> "FacesData":
        """Return these settings with what the faces decide.

        Raises:
            DataError: if a domain does not exist, nobody of one trains, or nearly all of a target are met in training.
        """
        faces.domain_numbers([*self.domains, *self.targets])
        for target in self.targets:
            self._tell_met(faces, target)
        people = len(set(faces.classes(faces.people(self.domains, ["train"], least=2)).tolist()))
        linked = faces.person is not None
        return replace(self, pixels=faces.side, people=people, digest=faces.digest, people_linked=linked)

    def _tell_met(self, faces: FaceSet, target: str) -> None:
        everyone, met = len(faces.people([target])), len(faces.met(target, self.domains))
        if not met:
            return
        told = f"{met} of the {everyone} people of target {shown(target)!r} train or validate in other domains"
        if everyone - met < 2:
            raise DataError(
                f"{told}, and to measure it takes 2 who don't; leave the domain out of data.targets, or take another "
                "--data.split-seed"
            )
        logger.warning("note: %s: it is measured on the %d others", told, everyone - met)

    def load(self, root: Path | None = None, download: bool = False) -> FaceSet:
        """Read the faces once; pass the result to `source`.

        Args:
            root: the folder or pack; None takes the one named when the run began, or the data folder.
            download: has no effect: faces are fetched by nobody but you.

        Raises:
            DataError: if there is none, or it can't be used.
        """
        place = root if root is not None else Path(self.folder) if self.folder else find_faces()
        before = bool(self.digest) and not self.people_linked
        faces = read_faces(place, pixels=self.pixels, seed=self.split_seed, same_names=self.same_names, before=before)
        if self.digest and faces.digest != self.digest:
            logger.warning("%s does not hold the faces that this run began with: its numbers differ", shown(place))
        return faces

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks; targets are in none of them.

        Raises:
            DataError: if a domain has too few identities.
        """
        faces: FaceSet = self.load() if loaded is None else loaded
        if part == "train":
            chance: dict[str, Any] = {"flip": self.flip, "shift": self.shift}
            return pair_splits(
                faces, self.domains, part, recipe=self.recipe, batch=self.batch, how=self.splits, **chance
            )
        return pair_splits(faces, self.domains, part, recipe=self.recipe, batch=self.home_batch)

    @property
    def loss(self) -> Loss:
        """Stand in for a loss: what faces are trained by belongs to the method."""
        return MSE()

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading further faces."""
        return {"kind": "faces", "pixels": self.pixels, "size": self.size, "channels": 1, "contrast": self.contrast}

    ways: ClassVar[None] = None
    shots: ClassVar[int] = 1
    train_shots: ClassVar[int] = 1
    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0
