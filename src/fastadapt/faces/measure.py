"""A network's embeddings of faces, their scores, and the result of a protocol for a domain."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import PARTS, FaceSet, Part
from fastadapt.errors import DataError
from fastadapt.faces.protocol import FaceProtocol, Verification, verification
from fastadapt.faces.verification import Scores, cosines, tar_at_far

CHUNK = 512
"""Images at a time."""


@torch.no_grad()
def embed(model: nn.Module, images: np.ndarray, recipe: FaceRecipe) -> np.ndarray:
    """Return embeddings `[n, 2 d]` of uint8 pixels `[n, P, P]`: of each image and of its mirror image, joined.

    Args:
        model: the embedding, in the mode it is to be used in.
        images: the pixels.
        recipe: how they become an input.

    Raises:
        DataError: if an embedding is not finite.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    rows = []
    for first in range(0, len(images), CHUNK):
        x = recipe.prepare(images[first : first + CHUNK]).to(device)
        rows.append(torch.cat((unit(model(x)), unit(model(x.flip(-1)))), 1).cpu())
    made = torch.cat(rows).double().numpy()
    if not np.isfinite(made).all():
        raise DataError("the network's embedding of a face is not finite; its training has diverged")
    return made


def unit(features: Tensor) -> Tensor:
    """Return rows of length 1."""
    return torch.nn.functional.normalize(features.flatten(1), dim=1)


class Pixels(nn.Module):
    """Embed an image as its pixels less their mean: the floor for any network.

    Example:
        >>> Pixels()(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[-1.,  1.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels of images `[n, 1, S, S]`, each image with mean 0, `[n, S^2]`."""
        return x.flatten(1) - x.flatten(1).mean(1, keepdim=True)


def scores_of(
    model: nn.Module,
    faces: FaceSet,
    recipe: FaceRecipe,
    domains: Sequence[str],
    parts: Sequence[Part] = PARTS,
    without: Iterable[int] = (),
) -> Scores:
    """Return the scores of all probes of some identities against their gallery images.

    Args:
        model: the embedding.
        faces: the faces.
        recipe: how pixels become an input.
        domains: whose identities.
        parts: which of them.
        without: numbers of identities to leave out, such as those that were adapted on.

    Raises:
        DataError: if nobody is left.
    """
    people = np.setdiff1d(faces.people(domains, parts), np.array(list(without), dtype=np.int64))
    if len(people) < 2:
        raise DataError(f"verification in {', '.join(domains)} needs 2 identities or more, and there are {len(people)}")
    rows = faces.images_of(people)
    made = embed(model, faces.images[rows], recipe)
    enrolled = faces.gallery[rows]
    matrix = cosines(made[~enrolled], made[enrolled])
    return Scores(matrix, faces.identity[rows][~enrolled], faces.identity[rows][enrolled])


def measured(
    model: nn.Module,
    faces: FaceSet,
    recipe: FaceRecipe,
    domain: str,
    *,
    protocol: FaceProtocol | None = None,
    parts: Sequence[Part] = PARTS,
    without: Iterable[int] = (),
    threshold: float | None = None,
) -> Verification:
    """Return the result of a protocol for a domain; the arguments are those of `scores_of` and `verification`.

    Where not all identities of the domain are measured, the protocol's name in the result says so.
    """
    protocol, without = FaceProtocol() if protocol is None else protocol, list(without)
    told = [protocol.name]
    told += [] if tuple(parts) == PARTS else [f"{' and '.join(parts)} identities alone"]
    told += [f"without {len(without)} identities"] if without else []
    protocol = replace(protocol, name=", ".join(told))
    return verification(scores_of(model, faces, recipe, [domain], parts, without), domain, protocol, threshold)


def threshold_on(
    model: nn.Module, faces: FaceSet, recipe: FaceRecipe, domains: Sequence[str], part: Part = "val", far: float = 0.01
) -> dict[str, Any]:
    """Return the threshold at a false accept rate on identities of known domains, as it is shipped with a run.

    Impostor pairs are within a domain, as pairs across domains are told apart by the domain alone.

    Returns:
        `{"value", "far", "tar", "part", "domains", "identities", "impostors"}`.
    """
    genuine, impostor, people = [], [], 0
    for domain in domains:
        if len(faces.people([domain], [part])) < 2:
            continue
        scores = scores_of(model, faces, recipe, [domain], [part])
        genuine.append(scores.genuine)
        impostor.append(scores.impostor)
        people += len(scores.gallery)
    if not genuine:
        raise DataError(f"no domain of {', '.join(domains)} has 2 {part} identities to choose a threshold on")
    found = tar_at_far(np.concatenate(genuine), np.concatenate(impostor), far)
    return {
        "value": found.value,
        "far": far,
        "tar": found.true_accepts,
        "part": part,
        "domains": list(domains),
        "identities": people,
        "impostors": int(sum(map(len, impostor))),
    }
