"""Augmented copies of images: other colours, and moved a little (DiffAugment, as P>M>F fine-tunes with)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import TaskError

_FAR = 1 / 8


def colour_and_shift(x: Tensor, generator: torch.Generator, share: float = 0.9) -> Tensor:
    """Return images with other brightness, saturation and contrast, moved by up to an eighth of their sides.

    Args:
        x: `[n, C, H, W]`.
        generator: of the CPU; the same state gives the same copies.
        share: the probability with which an image gets other colours, and with which it is moved.

    Returns:
        `[n, C, H, W]`; what is moved in from outside is 0.

    Raises:
        TaskError: for samples that are no images.

    Example:
        >>> images = torch.rand(2, 3, 16, 16)
        >>> colour_and_shift(images, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 16, 16])

    References:
        Zhao, Liu, Lin, Zhu, Han 2020, Differentiable Augmentation (arXiv:2006.10738).
    """
    if x.dim() != 4:
        raise TaskError(
            f"samples of shape {tuple(x.shape[1:])} are no images (C, H, W) whose colours and place could be changed; "
            "give augment=, a function of samples and a generator"
        )

    def drawn() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator).to(x)

    coloured = x + (drawn() - 0.5)
    grey = coloured.mean(1, keepdim=True)
    coloured = (coloured - grey) * (2 * drawn()) + grey
    mean = coloured.mean((1, 2, 3), keepdim=True)
    coloured = (coloured - mean) * (drawn() + 0.5) + mean
    coloured = torch.where(drawn() < share, coloured, x)
    return torch.where(drawn() < share, _moved(coloured, generator), coloured)


def _moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image moved by whole pixels."""
    moved = []
    for image in x:
        sides = [round(_FAR * side) for side in image.shape[1:]]
        down, right = (int(torch.randint(-far, far + 1, (), generator=generator)) for far in sides)
        moved.append(F.pad(image, (right, -right, down, -down)))
    return torch.stack(moved)
