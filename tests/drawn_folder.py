"""Small folders of made-up images, and every kind of file that spoils one."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 32, height: int = 32, mode: str = "L") -> Image.Image:
    """Return noise that no other seed has."""
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def content(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def put(path: Path, value: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value)
    return path


def make_folder(root: Path, classes: int = 9, images: int = 4, side: int = 32, mode: str = "L") -> Path:
    """Write `class0/0.png`, ...; no two images are alike."""
    for c in range(classes):
        for i in range(images):
            put(root / f"class{c}" / f"{i}.png", content(picture(1000 * c + i, side, side, mode)))
    return root


def _frames() -> bytes:
    return content(picture(15), "GIF", save_all=True, append_images=[picture(2), picture(3)])


def _sixteen() -> bytes:
    grey = np.random.default_rng(4).integers(0, 65536, (32, 32), dtype=np.uint16)
    return content(Image.fromarray(grey))


LONGEST = "x" * 251 + ".png"

# name in class0 -> content; each with the kind of its finding, whether training refuses it, and words of the sentence
FILES: dict[str, tuple[Callable[[], bytes], str, bool, str]] = {
    "empty.png": (lambda: b"", "file", True, "the file is empty; remove or replace it"),
    "cut.png": (lambda: content(picture(5, 90, 90, "RGB"))[:9000], "file", True, "the image is damaged or cut off"),
    "text.png": (lambda: b"not an image", "file", True, "is not a PNG, JPEG, WebP or GIF image"),
    "notes.txt": (lambda: b"cats and dogs", "file", True, "is not a PNG, JPEG, WebP or GIF image"),
    "old.bmp": (lambda: content(picture(6), "BMP"), "file", True, "is not a PNG, JPEG, WebP or GIF image"),
    "dot.png": (lambda: content(picture(7, 1, 1)), "size", True, "is 1x1 pixels, the model needs at least 28x28"),
    "thin.jpg": (lambda: content(picture(8, 65500, 1), "JPEG"), "size", True, "is 65500x1 pixels"),
    "wide.jpg": (
        lambda: content(Image.new("L", (65500, 300)), "JPEG", quality=20),
        "file",
        True,
        "has 65500x300 pixels, the most allowed are 16 million",
    ),
    "ink.jpg": (lambda: content(picture(13, mode="RGB").convert("CMYK"), "JPEG"), "CMYK", False, "converted to RGB"),
    "deep.png": (_sixteen, "16 bits", False, "16 bits a pixel, which are scaled to 8"),
    "clear.png": (lambda: content(picture(9, 32, 32, "RGBA")), "transparent", False, "becomes white"),
    "moving.gif": (_frames, "animation", False, "of which the first frame is used"),
    "größe.png": (lambda: content(picture(10)), "name", False, "has a name beyond ASCII"),
    LONGEST: (lambda: content(picture(11)), "long name", False, "has a name of 255 bytes"),
}


def spoil(root: Path) -> Path:
    """Put one of every kind of file into class0, and links of every kind beside it."""
    for name, (make, *_) in FILES.items():
        put(root / "class0" / name, make())
    (root / "class1" / "back").symlink_to("back")
    (root / "class1" / "gone.png").symlink_to("nowhere.png")
    (root / "up").symlink_to(root.absolute())
    (root / "class2" / "copy.png").write_bytes((root / "class2" / "0.png").read_bytes())
    (root / "class3" / "same.png").write_bytes((root / "class4" / "1.png").read_bytes())
    (root / "bare").mkdir()
    put(root / "loose.png", content(picture(12)))
    return root


def files_below(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))
