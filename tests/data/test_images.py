"""Images from files: what a good one becomes, and the sentence for each bad one."""

import io
import os
import re
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from fastadapt.data.images.images import MOST_BYTES, ImageRecipe
from fastadapt.errors import ConfigError, DataError

RECIPE = ImageRecipe(28)


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def cross(side=105, mode="L", paper="white", ink="black"):
    """Draw a cross whose upper left arm is missing, so that turning it shows."""
    image = Image.new("L", (side, side), paper)
    draw = ImageDraw.Draw(image)
    draw.line((side // 2, side // 2, side * 5 // 6, side * 5 // 6), ink, side // 12)
    draw.line((side // 6, side * 5 // 6, side * 5 // 6, side // 6), ink, side // 12)
    return image.convert(mode)


def decode(image, kind="PNG", recipe=RECIPE, **options):
    return recipe.decode(encoded(image, kind, **options), "a.png")


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side):
    """Return a small PNG of one bit a pixel and `side`x`side` pixels."""
    rows = zlib.compress(b"\0" * (side // 8 + 1) * side, 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# ---- what a good image becomes -----------------------------------------------------------------


def test_lanczos_is_the_recipe_of_omniglot_for_maml():
    expected = np.asarray(cross().resize((28, 28), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    x = decode(cross(mode="1"))
    assert x.shape == (1, 28, 28) and x.dtype == torch.float32 and x.is_contiguous()
    assert np.array_equal(x[0].numpy(), expected)
    inverted = ImageRecipe(28, invert=True).decode(encoded(cross()), "a.png")
    assert torch.equal(inverted, torch.sub(1.0, x)) and inverted.min() >= 0 and inverted.max() <= 1


def test_nearest_is_the_recipe_of_omniglot_for_reptile():
    one_bit = cross(mode="1")
    expected = np.asarray(one_bit.resize((28, 28), Image.Resampling.NEAREST).convert("L"), dtype=np.float32) / 255
    assert np.array_equal(decode(one_bit, recipe=ImageRecipe(28, resize="nearest"))[0].numpy(), expected)


def test_nearest_cuts_grey_at_the_middle_instead_of_dithering_it():
    recipe = ImageRecipe(28, resize="nearest")
    assert decode(Image.new("L", (50, 50), 140), recipe=recipe).unique().tolist() == [1.0]
    assert decode(Image.new("L", (50, 50), 100), recipe=recipe).unique().tolist() == [0.0]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "1", {}),
        ("PNG", "P", {}),
        ("PNG", "RGB", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("GIF", "L", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("JPEG", "L", {"quality": 100, "subsampling": 0}),
        ("JPEG", "RGB", {"quality": 100, "subsampling": 0}),
        ("JPEG", "CMYK", {"quality": 100, "subsampling": 0}),
    ],
)
def test_formats_and_modes_give_the_same_drawing(kind, mode, options):
    x = decode(cross(mode=mode), kind, **options)
    assert torch.allclose(x, decode(cross()), atol=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_become_grey_or_stay(channels):
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    x = ImageRecipe(28, channels=channels).decode(encoded(red), "red.png")
    means = x.mean((1, 2)).tolist()
    assert means == pytest.approx([76 / 255] if channels == 1 else [1.0, 0.0, 0.0])


def test_sixteen_bit_grey_is_scaled_not_clipped():
    ramp = np.tile(np.linspace(0, 65535, 56).astype(np.uint16), (56, 1))
    x = decode(Image.fromarray(ramp))
    assert torch.allclose(x[0, 0], torch.linspace(0, 1, 28), atol=0.02)


def test_transparent_is_white():
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 20, 40))
    x = decode(drawing)
    assert x[0, 10, 2] == 0 and x[0, 10, 25] == 1
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 10, 10, 10])
    assert decode(palette, transparency=1).min() == 1
    # One value of 16-bit grey declared transparent, after the signature and the header.
    grey, end = encoded(Image.fromarray(np.full((40, 40), 500, np.uint16))), 8 + 25
    assert RECIPE.decode(grey[:end] + chunk(b"tRNS", struct.pack(">H", 500)) + grey[end:], "a.png").min() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = Image.Transpose
    undo = [None, turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM]
    undo += [turn.TRANSPOSE, turn.ROTATE_90, turn.TRANSVERSE, turn.ROTATE_270]
    stored = cross(112) if undo[orientation - 1] is None else cross(112).transpose(undo[orientation - 1])
    assert torch.allclose(decode(stored, exif=exif), decode(cross(112)), atol=0.02)


def test_broken_exif_is_no_reason_to_refuse():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(cross(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff").shape == (1, 28, 28)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("L", (30, 30), grey) for grey in (255, 0, 128)]
    for kind in ("GIF", "WEBP", "PNG"):
        assert decode(frames[0], kind, save_all=True, append_images=frames[1:]).min() > 0.98


def test_pad_fills_up_with_the_colour_of_the_border():
    dark = Image.new("L", (80, 40), 20)
    dark.paste(250, (30, 10, 50, 30))
    x = ImageRecipe(28, fit="pad").decode(encoded(dark), "a.png")[0]
    assert x[0].tolist() == pytest.approx([20 / 255] * 28) and x[14, 14] > 0.9
    colour = Image.new("RGB", (40, 80), (10, 20, 30))
    y = ImageRecipe(28, channels=3, fit="pad").decode(encoded(colour), "a.png")
    assert (y[:, 0, 0] * 255).round().tolist() == [10, 20, 30]


def test_crop_takes_the_centre():
    image = Image.new("L", (90, 30), 0)
    image.paste(255, (30, 0, 60, 30))
    assert ImageRecipe(28, fit="crop").decode(encoded(image), "a.png").min() == 1


def test_a_very_long_image_is_padded_without_a_huge_square():
    started = time.perf_counter()
    x = ImageRecipe(28, fit="pad").decode(encoded(Image.new("L", (60_000, 100), 255)), "a.png")
    assert x.min() == 1 and time.perf_counter() - started < 2


def test_names_may_be_strange(tmp_path):
    for name in ("größe 漢字 🎨.png", "n" * 251 + ".png", os.fsdecode(b"\xff\xfe.png"), "-.png", "[red]\n.png"):
        path = tmp_path / name
        path.write_bytes(encoded(cross()))
        assert RECIPE.read(path).shape == (1, 28, 28)


# ---- the sentence for each bad one ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello, I am text\n" * 10, r"^a.png is not a PNG, JPEG, WebP or GIF image, or is damaged; save it as PNG$"),
        (encoded(cross(), "BMP"), "is not a PNG, JPEG, WebP or GIF image"),
        (encoded(cross(), "TIFF"), "is not a PNG, JPEG, WebP or GIF image"),
        (b"\x89PNG\r\n\x1a\n", "is not a PNG"),
        (encoded(cross())[:200], r"^can't decode a.png: the image is damaged or cut off \(.+\); save it again$"),
        (encoded(cross(), "JPEG")[:600], "can't decode a.png"),
        (encoded(cross(), "WEBP")[:100], "damaged"),
        (encoded(cross(), "GIF")[:400], "can't decode a.png"),
        (encoded(Image.new("L", (1, 1))), "is 1x1 pixels, the model needs at least 28x28; use a larger image$"),
        (encoded(Image.new("L", (20, 20))), "^a.png is 20x20 pixels, the model needs at least 28x28"),
        (
            encoded(Image.new("L", (120, 80))),
            "^a.png is 120x80 pixels and the model takes square images; fill it up with --fit pad, or take its centre "
            "with --fit crop$",
        ),
        (bomb(4100), "^a.png has 4100x4100 pixels, the most allowed are 16 million; make it smaller$"),
        (bomb(13_000), "^a.png has 13000x13000 pixels"),
        (bomb(14_000), "^a.png has over 178 million pixels"),
        (encoded(Image.new("L", (65_500, 300)), "JPEG"), "^a.png has 65500x300 pixels"),
        (b"\0" * (MOST_BYTES + 1), "^a.png is larger than 10 MB, the limit for an image; make it smaller$"),
    ],
)
def test_bad_content(content, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        RECIPE.decode(content, "a.png")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_at_once_and_silently():
    content = bomb(13_000)
    RECIPE.decode(encoded(cross()), "a.png")  # import Pillow
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started = time.perf_counter()
        with pytest.raises(DataError):
            RECIPE.decode(content, "a.png")
    assert time.perf_counter() - started < 0.05


def test_compressed_metadata_do_not_expand():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 100_000_000, 9))
    image = encoded(cross())
    with pytest.raises(DataError, match=r"a\.png"):
        RECIPE.decode(image[:33] + text + image[33:], "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_any_damage_is_a_data_error_or_an_image(kind):
    intact = encoded(cross(40), kind)
    rng = np.random.default_rng(0)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, on broken EXIF data
        for i in range(150):
            content = bytearray(intact)
            if i % 2:
                content = content[: rng.integers(1, len(intact))]
            else:
                for position in rng.integers(0, len(intact), 3):
                    content[position] ^= 1 << int(rng.integers(8))
            try:
                x = RECIPE.decode(bytes(content), "a.png")
            except DataError as error:
                refused += 1
                assert "a.png" in str(error)
            else:
                assert x.shape == (1, 28, 28) and x.min() >= 0 and x.max() <= 1
    assert refused > 60


def _empty(folder):
    (folder / "empty.png").touch()
    return folder / "empty.png"


def _loop(folder):
    (folder / "loop.png").symlink_to("loop.png")
    return folder / "loop.png"


def _pipe(folder):
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def _large(folder):
    with (folder / "large.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    return folder / "large.png"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_empty, r"^can't read \S+empty.png as an image: the file is empty; remove or replace it$"),
        (_loop, "symbolic link that leads back to itself; give the file itself$"),
        (_pipe, "it is not a regular file; give a file$"),
        (_large, "large.png is larger than 10 MB, the limit for an image; make it smaller$"),
        (lambda folder: folder, "it is a folder; give the files in it$"),
        (lambda folder: folder / "none.png", "there is no such file; check the path$"),
        (lambda folder: folder / ("n" * 300), r"n{3}\.\.\.n{80}: its name is longer than the file system allows"),
        (lambda folder: folder / "a\0b.png", "embedded null"),
        (lambda folder: _empty(folder) / "b.png", "a part of its path is not a folder; check the path$"),
    ],
)
def test_bad_files(tmp_path, make, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        RECIPE.read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_forbidden_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(cross()))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match=r"reading it is not permitted; change its permissions$"):
        RECIPE.read(path)


def test_a_failing_disk(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.png"
    path.write_bytes(encoded(cross()))
    monkeypatch.setattr("pathlib.Path.open", fail)
    with pytest.raises(DataError, match=r"reading it is not permitted; change its permissions$"):
        RECIPE.read(path)


def test_colours_are_normalised_after_they_are_inverted():
    red = encoded(Image.new("RGB", (40, 40), (255, 0, 51)))
    for invert, values in ((False, (1, 0, 0.2)), (True, (0, 1, 0.8))):
        x = ImageRecipe(28, channels=3, invert=invert, normalise="imagenet").decode(red, "red.png")
        pairs = zip(values, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
        expected = torch.tensor([(value - mean) / std for value, mean, std in pairs])
        torch.testing.assert_close(x, expected.view(3, 1, 1).expand(3, 28, 28))


def test_names_can_not_forge_a_message(tmp_path):
    path = tmp_path / "a\x1b[31m\nerror: b.png"
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=re.escape(r"a\x1b[31m\nerror: b.png is not")):
        RECIPE.read(path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, r"size must be 1\.\.1024 pixels, got 0"),
        ({"size": 2000}, "got 2000"),
        ({"size": "28"}, "got '28'"),
        ({"size": 28, "channels": 2}, r"1 channel \(grey\) or 3 \(RGB\), got 2"),
        ({"size": 28, "resize": "cubic"}, "'lanczos' or 'nearest', got 'cubic'"),
        ({"size": 28, "fit": "stretch"}, "'refuse', 'pad' or 'crop', got 'stretch'"),
        ({"size": 28, "channels": 3, "normalise": "zscore"}, "normalise must be 'none', or 'imagenet'"),
        ({"size": 28, "normalise": "imagenet"}, "'imagenet' for images of 3 channels, got 'imagenet' for 1"),
        ({"size": 28, "kind": "points"}, "not the recipe of an image but of 'points'"),
    ],
)
def test_bad_settings(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ImageRecipe(**settings)


@pytest.mark.long
def test_importing_the_package_imports_no_pillow():
    heavy = "('PIL', 'rich', 'tyro')"
    code = f"import sys, fastadapt, fastadapt.data.images.folder; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
