"""`fastadapt embed FOLDER --backbone WHICH --out FILE`: the features of a folder of pictures, written once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from fastadapt.backbones.embed import Told, check_out, embed
from fastadapt.commands.backbone_options import BackboneOptions, look_at_pictures
from fastadapt.data.files import as_word, shown
from fastadapt.data.images.folder_images import Bad


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(BackboneOptions):
    """Write the features that a backbone gives for a folder of pictures; the same command goes on after a kill."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """The pictures: class folders at any depth."""
    out: Path
    """The file to write: .safetensors, or .npz."""
    split: str = "auto"
    """Which division of the classes is noted: auto, folders, random, or a file that lists classes."""
    bad: Bad = "fail"
    """What can't be used: refused or left out."""
    threads: int | None = None
    """CPU threads; the bytes are the same for one and the same number."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and embed."""
    settings = tyro.cli(EmbedSettings, args=list(argv), prog="fastadapt embed")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    check_out(settings.out)
    backbone = settings.find()
    pictures = look_at_pictures(settings.folder, split=settings.split, bad=settings.bad)
    made = embed(pictures, backbone, settings.out, Told())
    print(
        f"wrote {shown(settings.out)}: {len(made):,} embeddings of {made.features.shape[1]} numbers, "
        f"{len(made.class_names)} classes, by {backbone.name}"
    )
    print(f"  fastadapt train --data {as_word(settings.out)} --head cl2n")
    return 0
