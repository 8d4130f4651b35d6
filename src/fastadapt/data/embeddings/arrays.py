"""Embeddings as named arrays: `.npz` and `.safetensors`, read without pickle and written with the same bytes."""

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError

from fastadapt.data.embeddings.embeddings import Embeddings, made_of
from fastadapt.data.embeddings.roles import FEATURES, Asked, named
from fastadapt.data.files import shown
from fastadapt.data.tables.spelling import spellings
from fastadapt.errors import DataError

CLASS_NAMES = "class_names"
_FACTS = "facts"
logger = logging.getLogger(__name__)


def read_npz(path: Path, content: bytes, asked: Asked) -> Embeddings:
    """Return the embeddings of an archive of numpy.

    Raises:
        DataError: if it is damaged, holds objects, or leaves open what is what.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        why = "it holds Python objects" if "pickle" in str(error) else str(error).splitlines()[0]
        raise DataError(f"can't read {asked.name} as .npz: {why}; save plain arrays with np.savez") from error
    facts = arrays.pop(_FACTS, None)
    return _of_arrays(arrays, _plain(facts.item() if facts is not None and facts.ndim == 0 else None), asked)


def read_safetensors(path: Path, content: bytes, asked: Asked) -> Embeddings:
    """Return the embeddings of a file of safetensors; names of classes and samples are in its metadata.

    Raises:
        DataError: if it is damaged, or leaves open what is what.
    """
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"can't read {asked.name} as .safetensors: {error}; write it again") from error
    arrays = {
        name: (tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor).numpy()
        for name, tensor in tensors.items()
    }
    return _of_arrays(arrays, _plain(metadata.get(_FACTS)), asked)


def _plain(text: Any) -> dict[str, Any]:
    """Return what `write_embeddings` noted; nothing of a file from elsewhere."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_arrays(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], asked: Asked) -> Embeddings:
    noted = {name: facts[name] for name in (CLASS_NAMES, "names") if facts.get(name) is not None}
    present = [name for name in arrays if name != CLASS_NAMES]
    role = asked.of_classes(present, "array")
    called = asked.of_names([name for name in present if name != role])
    rest = [name for name in present if name not in (role, called)]
    features = named(rest, FEATURES) or [name for name in rest if arrays[name].ndim == 2]
    if len(features) != 1:
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        problem = "several arrays that may be the features" if features else "no array of features"
        raise DataError(f"{asked.name} has {problem} ({held}); call the one that is meant features")
    asked.left_out([name for name in rest if name != features[0]], "array")
    classes = None if role is None or not asked.classes else arrays[role]
    words = noted.get(CLASS_NAMES, arrays.get(CLASS_NAMES))
    settled = CLASS_NAMES in noted
    if classes is not None and words is not None:
        if classes.dtype.kind in "iuf":
            classes = _looked_up(classes, np.asarray(words), asked.name, settled=settled)
        else:
            asked.left_out([CLASS_NAMES], "array", "names classes that are numbers, and here they are words")
    names = noted.get("names", None if called is None else arrays[called])
    told = {name: facts[name] for name in ("backbone", "parts") if name in facts}
    return made_of(asked.name, arrays[features[0]], classes, names, settled=settled, **told)


def _looked_up(classes: np.ndarray, words: np.ndarray, name: str, *, settled: bool) -> np.ndarray:
    """Return the name of each row's class, by its number."""
    if words.ndim != 1:
        raise DataError(f"{name}: class_names has shape {list(words.shape)}; give one name for each class, [classes]")
    texts = [
        word.decode("utf-8", "backslashreplace") if isinstance(word, bytes) else str(word) for word in words.tolist()
    ]
    called = texts if settled else [text.strip() for text in texts]
    _refuse_alike(called, name, settled=settled)
    if classes.dtype.kind == "f":
        if not bool(np.all(classes % 1 == 0)):
            return classes  # with fractions, or missing: told with the row
        classes = classes.astype(np.int64)
    if not len(classes):
        return classes
    least, most = int(classes.min()), int(classes.max())
    if not (least >= 0 and most < len(called)):
        hint = "; subtract 1 from them" if (least, most) == (1, len(called)) else ""
        raise DataError(
            f"{name}: the classes are the numbers {least} to {most}, and class_names has {len(called)} "
            f"names; one is needed for each number from 0 on{hint}"
        )
    if least > 0 and most == len(called) - 1:
        logger.warning(
            "note: %s: no row has the class 0, %r, and the last is %d, %r; if the numbers count from 1, subtract 1",
            name,
            shown(called[0]),
            most,
            shown(called[most]),
        )
    return np.array(called, dtype=object)[classes]


def _refuse_alike(called: list[str], name: str, *, settled: bool) -> None:
    """Refuse two names of classes that are one word, or one number as two programs write it."""
    other = {} if settled else spellings(called)
    first: dict[str, int] = {}
    for number, word in enumerate(called):
        before = first.setdefault(other.get(word, word), number)
        if before != number:
            raise DataError(
                f"{name}: class_names has {shown(called[before])!r} for {before} and {shown(word)!r} for {number}, "
                "which is one class; give each a name of its own, or both the same number"
            )


def as_bytes(made: Embeddings, ending: str) -> bytes:
    """Return a file of embeddings as `embed` writes it: features, labels, and names in a note.

    Args:
        made: what is written.
        ending: ".npz" or ".safetensors".

    Example:
        >>> import torch
        >>> made = Embeddings(torch.eye(2), np.array([0, 1]), ("cat", "dog"), backbone="net")
        >>> read_npz(Path("f.npz"), as_bytes(made, ".npz"), Asked("f.npz")).backbone
        'net'
    """
    facts = {"backbone": made.backbone, "parts": dict(made.parts), "names": made.names, CLASS_NAMES: made.class_names}
    text = json.dumps(facts)
    assert made.labels is not None
    if ending == ".npz":
        file = io.BytesIO()
        np.savez(file, features=made.features.numpy(), labels=made.labels, facts=np.array(text))
        return file.getvalue()
    import torch

    tensors = {"features": made.features, "labels": torch.from_numpy(made.labels)}
    return safetensors.torch.save(tensors, metadata={_FACTS: text})
