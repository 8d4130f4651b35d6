"""Faces that nobody has: smooth patterns, one for each identity, seen through the gain and offset of a domain."""

import numpy as np
from PIL import Image

from fastadapt.data.domains.face_set import FaceSet

DOMAINS = ("lab", "yard", "attic", "cellar")


def small_faces(people=12, images=3, side=16, seed=0):
    rng = np.random.default_rng(seed)
    waves = np.stack([np.sin(np.arange(side) * (k + 1) / 3) for k in range(4)])
    pictures, identity = [], []
    for number in range(people * len(DOMAINS)):
        own = waves.T @ rng.normal(size=(4, 4)) @ waves
        gain, offset = 14 + 8 * (number // people), 90 + 20 * (number // people)
        for _ in range(images):
            pictures.append(np.clip(offset + gain * (own + 0.3 * rng.normal(size=own.shape)), 0, 255))
            identity.append(number)
    identity = np.array(identity)
    domain = np.repeat(np.arange(len(DOMAINS)), people)
    part = np.tile(np.array([0] * (people - 4) + [1, 1, 2, 2]), len(DOMAINS))
    return FaceSet(
        np.stack(pictures).astype(np.uint8),
        identity,
        np.arange(len(identity)) % images == 0,
        tuple(f"{i}" for i in range(len(identity))),
        tuple(f"{DOMAINS[d]}/{i:03d}" for i, d in enumerate(domain)),
        domain,
        part,
        DOMAINS,
    )


def write_pack(path, faces):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "images": faces.images,
        "domain": faces.identity_domain[faces.identity],
        "identity": faces.identity,
        "gallery": faces.gallery,
        "name": np.array(faces.names),
        "domain_names": np.array(faces.domain_names),
        "identity_names": np.array(faces.identity_names),
        "identity_domain": faces.identity_domain,
        "identity_split": faces.identity_part,
    }
    np.savez(path, **arrays)
    return arrays


def write_tree(folder, faces):
    for row, person in enumerate(faces.identity):
        place = folder / faces.identity_names[person]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces.images[row]).save(place / f"{row:04d}.png")
    return folder
