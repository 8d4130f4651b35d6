"""Tensors of many processes in one folder, each process's part in a file of its own: safetensors, so no pickles."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor


def write(folder: Path, tensors: Mapping[str, Tensor], *, alone: bool = False) -> None:
    """Write `shard-*.safetensors`, in all processes at once; what is not sharded is written by one of them.

    Args:
        folder: an existing folder that all processes see.
        tensors: by name; those that are sharded are DTensors.
        alone: whether this process has no others.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    with _quiet():
        dcp.save(
            dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True), no_dist=alone
        )


def read(folder: Path, tensors: Mapping[str, Tensor], *, alone: bool = False) -> None:
    """Fill tensors, in place, with what `write` wrote; each process reads what it needs of every file.

    Args:
        folder: what was written, by any number of processes.
        tensors: what to fill, by name; DTensors get their own part.
        alone: whether this process has no others, or reads without them.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    with _quiet():
        dcp.load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def shapes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return shape and type of every tensor that `write` wrote, as if it were in one piece."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    with _quiet():
        known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: (what.size, what.properties.dtype)
        for name, what in known.items()
        if isinstance(what, TensorStorageMetadata)
    }


def whole(folder: Path) -> dict[str, Tensor]:
    """Return every tensor that `write` wrote, in one piece.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write(Path(place), {"a": torch.arange(3)}, alone=True)
        ...     whole(Path(place))
        {'a': tensor([0, 1, 2])}
    """
    tensors = {name: torch.empty(size, dtype=kind) for name, (size, kind) in shapes(folder).items()}
    read(folder, tensors, alone=True)
    return tensors


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself that a process writes without a group, and what torch warns of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
