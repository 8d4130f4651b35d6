"""Images that stay on the device where their tasks are used."""

from typing import Any

import torch

from fastadapt.data.images.classes import ClassImages
from fastadapt.data.images.flat import AllClasses
from fastadapt.tasks import SampleFunction, TaskSource

_SHARE = 0.25  # of the memory that is free when asked: the rest is for the inner loop


def resident(
    source: TaskSource | SampleFunction, device: torch.device, room: float | None = None
) -> TaskSource | SampleFunction:
    """Return the source with its images on `device`, where they fit; any other source as it is.

    Images are kept as bytes and become floats when they are drawn. Drawn on the host, each meta-batch would be made
    there and copied, four bytes for one, while the device waits.

    Args:
        source: where tasks come from; `ClassImages` and flat batches of them hold images.
        device: where the tasks are used.
        room: bytes that the images may take there; by default a quarter of a CUDA device's free memory, and none
            elsewhere.

    Example:
        >>> import numpy as np
        >>> images = torch.zeros(30, 8, 8, dtype=torch.uint8)
        >>> source = ClassImages(images, np.arange(30) // 6, tuple("abcde"), queries=5)
        >>> resident(source, torch.device("cpu")) is source
        True
    """
    if not isinstance(source, ClassImages | AllClasses):
        return source
    if room is None:
        room = _SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    held: Any = source.images.images if isinstance(source, AllClasses) else source.images
    return source.to(device) if held.numel() <= room else source
