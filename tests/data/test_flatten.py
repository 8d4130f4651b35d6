"""Transparency is laid on what shows the drawing, and formats that are not read are named."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from drawn_folder import content
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import ImageRecipe
from fastadapt.data.images.other_formats import other_format
from fastadapt.errors import DataError


def stroke(mode: str, ink: object, clear: object) -> Image.Image:
    image = Image.new(mode, (40, 40), clear)  # type: ignore[arg-type]
    ImageDraw.Draw(image).line((5, 5, 34, 34), ink, 3)  # type: ignore[arg-type]
    return image


def keyed(paper: int, ink: int) -> Image.Image:
    """Return a picture that is transparent where it has one grey, as PNG has it."""
    stream = io.BytesIO()
    stroke("L", ink, paper).save(stream, "PNG", transparency=paper)
    return Image.open(stream)


def palette(kind: str, ink: tuple[int, int, int]) -> Image.Image:
    image = stroke("P", 1, 0)
    image.putpalette([90, 90, 90, *ink])
    stream = io.BytesIO()
    image.save(stream, kind, transparency=0)
    return Image.open(stream)


def sixteen(ink: int) -> Image.Image:
    image = Image.fromarray(np.asarray(stroke("L", 1, 0)).astype(np.uint16) * ink)
    image.info["transparency"] = 0
    return image


LIGHT = {
    "white on clear white": stroke("RGBA", (255, 255, 255, 255), (255, 255, 255, 0)),
    "white on clear black": stroke("RGBA", (255, 255, 255, 255), (0, 0, 0, 0)),
    "pale grey": stroke("LA", (235, 255), (0, 0)),
    "half transparent": stroke("RGBA", (255, 255, 255, 120), (255, 255, 255, 0)),
    "ivory": stroke("RGBA", (255, 250, 235, 255), (0, 0, 0, 0)),
    "colour key": keyed(7, 255),
    "palette": palette("PNG", (255, 255, 255)),
    "gif": palette("GIF", (250, 250, 250)),
    "16 bits": sixteen(65535),
}
DARK = {
    "black": stroke("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)),
    "yellow": stroke("RGBA", (255, 255, 0, 255), (0, 0, 0, 0)),
    "light blue": stroke("RGBA", (173, 216, 230, 255), (255, 255, 255, 0)),
    "grey": stroke("LA", (128, 255), (255, 0)),
    "palette": palette("PNG", (10, 10, 10)),
    "16 bits": sixteen(300),
}


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_drawing_on_transparency_is_laid_on_black(name: str) -> None:
    pixels = np.asarray(flatten(LIGHT[name]).convert("L"))
    assert pixels[0, 39] == 0 and pixels[20, 20] > 100


@pytest.mark.parametrize("name", DARK)
def test_any_other_drawing_is_laid_on_white(name: str) -> None:
    pixels = np.asarray(flatten(DARK[name]).convert("RGB"))
    assert pixels[0, 39].tolist() == [255] * 3 and pixels[20, 20].min() < 224


def test_nothing_drawn_and_nothing_transparent_stay_white_and_what_they_are() -> None:
    assert flatten(Image.new("RGBA", (8, 8), (0, 0, 0, 0))).getextrema() == ((255, 255),) * 3
    white = stroke("RGB", (250, 250, 250), (240, 240, 240))
    assert flatten(white.convert("RGBA")).tobytes() == white.tobytes()


def test_a_card_with_clear_corners_and_dark_text_keeps_its_white_surroundings() -> None:
    card = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    pen = ImageDraw.Draw(card)
    pen.rounded_rectangle((0, 0, 39, 39), 12, (255, 255, 255, 255))
    pen.rectangle((8, 8, 31, 14), (0, 0, 0, 255))
    assert flatten(card).getpixel((0, 0)) == (255, 255, 255)


def test_prediction_sees_the_same_as_training() -> None:
    x = ImageRecipe(28).decode(content(LIGHT["white on clear white"]), "a.png")
    assert float(x.min()) == 0.0 and float(x.max()) > 0.5


FOREIGN = {
    "BMP": content(Image.new("L", (32, 32), 9), "BMP"),
    "TIFF": content(Image.new("L", (32, 32), 9), "TIFF"),
    "ICO": content(Image.new("RGB", (32, 32), 9), "ICO"),
    "PNM": content(Image.new("L", (32, 32), 9), "PPM"),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(20),
    "HEIC": b"\0\0\0\x20ftypheic" + bytes(20),
    "SVG": b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='x'/>",
    "DICOM": bytes(128) + b"DICM",
    "PDF": b"%PDF-1.7",
    "NumPy": b"\x93NUMPY\1\0",
    "Photoshop": b"8BPS\0\1",
    "zip": b"PK\3\4",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_named(name: str) -> None:
    with pytest.raises(
        DataError, match=r"^a is not a PNG, JPEG, WebP or GIF image, but an? .*; save it as PNG$"
    ) as caught:
        ImageRecipe(28).decode(FOREIGN[name], "a")
    assert name in str(caught.value)


def test_text_and_broken_files_are_no_known_format() -> None:
    assert [other_format(text) for text in (b"", b"hello", b"GIF")] == [None] * 3
