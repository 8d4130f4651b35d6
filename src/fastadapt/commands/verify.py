"""`fastadapt verify A.png B.png`: whether two images are likely to be of one person, by a trained run on faces."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastadapt.data.files import shown
from fastadapt.data.images.images import Fit
from fastadapt.errors import ConfigError
from fastadapt.faces.verification import cosines
from fastadapt.runs.face_run import FaceRun, load_face_run


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """Compare two faces. The answer is a likeness and on which side of a threshold it lies, never a certainty."""

    files: Annotated[tyro.conf.Positional[tuple[Path, Path]], tyro.conf.arg(metavar="A B")]
    """Two images, each of one face that fills it, as in the training."""
    run: Path = Path("runs/faces-mfr")
    """Folder of a trained run on faces."""
    threshold: float | None = None
    """A cosine above which a pair is called alike; by default what the run chose on its validation identities."""
    fit: Fit | None = None
    """What to do with an image that is not square; by default its centre is taken."""
    json: bool = False
    """Print JSON."""


CAUTION = (
    "This is a likeness of two pictures, not an identification: pictures of two people can be above the threshold, and "
    "of one person below it, more often where light, camera or people differ from those that were trained on."
)
"""What every answer says."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and compare."""
    settings = tyro.cli(VerifySettings, args=list(argv), prog="fastadapt verify")
    run = load_face_run(settings.run)
    chosen = threshold_of(run, settings.threshold)
    made = run.embed_files(settings.files, settings.fit)
    likeness = float(cosines(made[:1], made[1:])[0, 0])
    above = likeness > chosen["value"]
    if settings.json:
        told = {"cosine": likeness, "threshold": chosen, "above_threshold": above, "run": run.name, "caution": CAUTION}
        print(json.dumps(told, indent=2))
        return 0
    a, b = map(shown, settings.files)
    print(f"cosine {likeness:.3f}; threshold {chosen['value']:.3f} ({told_of(chosen)})")
    print(
        f"{a} and {b} are {'above' if above else 'not above'} the threshold: "
        f"{'possibly' if above else 'probably not'} one person"
    )
    print(CAUTION)
    return 0


def threshold_of(run: FaceRun, asked: float | None) -> dict[str, Any]:
    """Return the threshold to use, and where it is from.

    Raises:
        ConfigError: if there is none, or it is no cosine.
    """
    if asked is not None:
        if not (math.isfinite(asked) and -1 <= asked <= 1):
            raise ConfigError(f"--threshold is a cosine in -1..1, got {asked}")
        return {"value": asked, "given": True}
    if run.threshold is None:
        raise ConfigError(
            f"{run.name} has no threshold yet; let its training finish, run fastadapt evaluate, or give --threshold"
        )
    return run.threshold


def told_of(chosen: dict[str, Any]) -> str:
    """Return where a threshold is from, in words."""
    if chosen.get("given"):
        return "as you gave it"
    return (
        f"at which {100 * chosen['far']:g} % of {chosen['impostors']} pairs of two people were accepted and "
        f"{100 * chosen['tar']:.0f} % of pairs of one, among {chosen['identities']} validation identities of "
        f"{', '.join(chosen['domains'])}"
    )
