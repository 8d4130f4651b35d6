"""Untrusted bytes become samples: base64 and files become images, rows become points.

Images are decoded by `fastadapt.data.images.images`, the only door for such bytes; here it is counted how many there
are.
"""

import base64
import binascii
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastadapt.data.images.images import NORMALISATIONS, ImageRecipe
from fastadapt.errors import DataError
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.schemas import ImageClass, Rows

_PREFIX = re.compile(r"data:(image|audio)/[a-z0-9.+-]{1,40};base64,")
Check = Callable[[], None]
"""Raises if the work should stop: its time is over, or nobody waits for it."""


@dataclass(frozen=True)
class File:
    """One image file of a class."""

    label: str
    content: bytes
    field: str


def from_base64(text: str, field: str, what: str = "an image", send: str = "a PNG, JPEG, WebP or GIF") -> bytes:
    """Return the bytes of base64, with or without a `data:` prefix.

    Args:
        text: as it was sent.
        field: where.
        what: it should be, for the message.
        send: which kinds there are, for the message.

    Raises:
        Problem: 400 if it is no base64.
    """
    found = _PREFIX.match(text)
    try:
        content = base64.b64decode(text[found.end() :] if found else text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise Problem(400, "bad_base64", f"{what} is not base64; send the base64 of {send}", field)
    return content


def files_of(classes: Sequence[ImageClass]) -> list[File]:
    """Return the files of a JSON body, in its order.

    Raises:
        Problem: 400 if one is no base64.
    """
    return [
        File(each.name, from_base64(text, f"classes[{i}].images[{j}]"), f"classes[{i}].images[{j}]")
        for i, each in enumerate(classes)
        for j, text in enumerate(each.images)
    ]


def grouped(files: Sequence[File], limits: Limits) -> dict[str, list[File]]:
    """Return the files by class, classes in the order in which they come first.

    Raises:
        Problem: 422 for a name that can't be used, 413 for too many images, 422 for too many of a class.
    """
    limits.check_count(len(files), limits.images, "images", "classes", 413)
    by_class: dict[str, list[File]] = {}
    for file in files:
        by_class.setdefault(limits.check_name(file.label, file.field), []).append(file)
    for group in by_class.values():
        limits.check_count(len(group), limits.shots, "images of a class", group[0].field)
    return by_class


def decoded(recipe: ImageRecipe, files: Sequence[tuple[bytes, str]], check: Check) -> Tensor:
    """Return images `[n, C, size, size]`.

    Args:
        recipe: what the model takes.
        files: bytes and field of each.
        check: is called before each.

    Raises:
        Problem: 400 for the first that can't be used.
    """
    rows = []
    for content, field in files:
        check()
        try:
            rows.append(recipe.decode(content, "the image"))
        except DataError as error:
            raise Problem(400, "bad_image", str(error), field) from None
    return torch.stack(rows)


def check_apart(x: Tensor, files: Sequence[File]) -> None:
    """Raise for an image that stands in two classes: no answer to it can be right for both.

    Args:
        x: `[n, ...]`, the images as the model sees them, so that another format or name does not tell them apart.
        files: theirs.

    Raises:
        Problem: 422 for the first.
    """
    seen: dict[bytes, File] = {}
    for image, file in zip(x, files, strict=True):
        first = seen.setdefault(image.numpy().tobytes(), file)
        if first.label != file.label:
            raise Problem(
                422,
                "same_image",
                f"{first.label!a} and {file.label!a} have the same image, as the model sees it; keep it in one of them",
                file.field,
            )


def as_png(image: Tensor, recipe: ImageRecipe) -> bytes:
    """Return an image `[C, size, size]` as a PNG that `recipe` decodes to the same numbers."""
    from PIL import Image

    mean, std = NORMALISATIONS[recipe.normalise]
    if mean is not None and std is not None:
        image = image * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    pixels = torch.sub(1.0, image) if recipe.invert else image
    values = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    array = values[0].numpy() if recipe.channels == 1 else values.permute(1, 2, 0).contiguous().numpy()
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


def points(rows: Rows, inputs: int, outputs: int, limits: Limits) -> tuple[Tensor, Tensor]:
    """Return `x: [n, inputs]` and `y: [n, outputs]`.

    Raises:
        Problem: 422 if they have other sizes, or are too many.
    """
    limits.check_count(len(rows.x), limits.points, "points", "rows.x")
    if len(rows.x) != len(rows.y):
        raise Problem(
            422, "bad_rows", f"there are {len(rows.x)} rows of x and {len(rows.y)} of y; send as many of both", "rows"
        )
    return table(rows.x, inputs, "rows.x"), table(rows.y, outputs, "rows.y")


def table(rows: Sequence[Sequence[float]], width: int, field: str) -> Tensor:
    """Return rows of numbers as `[n, width]`.

    Raises:
        Problem: 422 if a row has another width, or a number is too large for float32.
    """
    wrong = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if wrong is not None:
        raise Problem(
            422,
            "bad_rows",
            f"a row has {len(rows[wrong])} numbers and the model takes {width}; send {width} in each",
            f"{field}[{wrong}]",
        )
    values = torch.tensor(rows, dtype=torch.float64).float()
    if not bool(values.isfinite().all()):
        raise Problem(422, "bad_rows", "a number is too large for float32 (3.4e38); scale the data", field)
    return values
