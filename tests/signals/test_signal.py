"""A file becomes a photograph or a sound whatever its size, mode, depth, rate and channels are."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fastadapt.errors import ConfigError, DataError
from fastadapt.signals.example import example, voice
from fastadapt.signals.resampled import loudest, one_channel, resampled
from fastadapt.signals.signal import Photo, cut, photo_of, read_signal, sound_of
from signals.waves import tone, wav


def saved(picture, kind="PNG", **options):
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def halves(mode, size=(120, 80)):
    """Return a picture that is white above and black below."""
    picture = Image.new("L", size, 255)
    picture.paste(0, (0, size[1] // 2, *size))
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_is_a_photograph(mode):
    found = photo_of(saved(halves(mode)), "a.png", 64).target
    assert found.shape == (64, 64, 3) and found.dtype == np.uint8
    assert found[:28].min() > 250 and found[36:].max() < 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_kind_of_file_is_a_photograph(kind):
    assert photo_of(saved(halves("L"), kind), "a", 32).target[:10].min() > 200


@pytest.mark.parametrize("size, side", [((17, 400), 17), ((64, 64), 64), ((1600, 1200), 64), ((16, 16), 16)])
def test_every_size_gives_the_middle_square(size, side):
    assert photo_of(saved(halves("RGB", size)), "a.png", 64).target.shape == (side, side, 3)


def test_a_turned_photograph_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 3
    assert photo_of(saved(halves("RGB"), "JPEG", exif=exif), "a.jpg", 32).target[:10].max() < 50


@pytest.mark.parametrize(
    "content, said",
    [
        (saved(halves("RGB", (15, 900))), "15x900 pixels; give a picture of at least 16x16"),
        (saved(halves("RGB", (300, 300)))[:200], "damaged or cut off"),
        (b"no picture", "is not a PNG, JPEG, WebP or GIF image"),
        (saved(halves("RGB"), "TIFF"), "TIFF"),
    ],
)
def test_what_is_no_photograph_is_told(content, said):
    with pytest.raises(DataError, match=said):
        photo_of(content, "a.png")


@pytest.mark.parametrize("side", [0, 15, 257])
def test_a_side_outside_its_range_is_told(side):
    with pytest.raises(ConfigError, match=f"16 to 256 pixels a side, got {side}"):
        photo_of(saved(halves("RGB")), "a.png", side)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 44_099, 96_000])
def test_every_rate_becomes_one(rate):
    found = sound_of(wav(tone(0.4, rate), rate), "a.wav", 0.4)
    there = 0.9 * np.sin(2 * np.pi * 300 * np.arange(len(found.target)) / 11_025)
    assert abs(len(found.target) - 0.4 * 11_025) <= 1
    np.testing.assert_allclose(found.target[200:-200], there[200:-200], atol=0.01)


def test_what_the_lower_rate_can_not_hold_is_gone_and_not_folded():
    low, high = tone(0.2, 44_100, 400), tone(0.2, 44_100, 9000)
    np.testing.assert_allclose(
        resampled(low + high, 44_100, 11_025)[100:-100], resampled(low, 44_100, 11_025)[100:-100], atol=0.01
    )
    with pytest.raises(DataError, match=r"hardly anything below 5,512 Hz"):
        sound_of(wav(high, 44_100), "a.wav")


def test_channels_are_one_and_do_not_cancel():
    left = tone(0.1)
    np.testing.assert_allclose(one_channel(np.stack([left, 0 * left], 1)), left / 2)
    np.testing.assert_allclose(one_channel(np.stack([left, -left], 1)), left)


def test_the_loudest_stretch_is_taken():
    sound = np.concatenate([0.1 * tone(1.0), tone(0.5), np.zeros(22_050)])
    found = sound_of(wav(sound), "a.wav", 0.5)
    assert found.begins == pytest.approx(1.0, abs=0.03) and found.whole == pytest.approx(2.5)
    assert np.abs(found.target).max() == pytest.approx(0.9)
    assert loudest(sound, 10**6, 5) == 0


@pytest.mark.parametrize("sound", [np.zeros(5000), np.full(5000, 0.5), [0.3]])
def test_silence_is_told(sound):
    with pytest.raises(DataError, match="is silent; there is nothing to fit"):
        sound_of(wav(sound), "a.wav")


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e30])
def test_how_loud_floats_are_does_not_matter(scale):
    found = sound_of(wav(tone(0.2) * scale, bits=64, floating=True), "a.wav", 0.2)
    assert found.decibels(sound_of(wav(tone(0.2), bits=64, floating=True), "b.wav", 0.2).target) > 60


def test_a_sound_is_windows_that_are_equally_loud_and_joined_again():
    sound = cut(np.concatenate([voice()[:3000], np.zeros(2048), voice()[6000:9000]]), 11_025, "a", 2.0)
    tasks = sound.tasks()
    assert len(tasks) < -(-len(sound.target) // 1024)  # a silent window is not fitted
    assert all(float(y.square().mean().sqrt()) == pytest.approx(0.3, abs=1e-3) for _, y in tasks)
    again = sound.joined([y for _, y in tasks])
    assert again.shape == sound.target.shape and sound.decibels(again) > 40
    assert sound.decibels(0 * again) == pytest.approx(0)


def test_a_photograph_is_its_pixels_and_the_ratio_is_that_of_the_paper():
    photo = example("photo", 32)
    [(where, colours)] = photo.tasks()
    assert where.shape == (1024, 2) and colours.dtype == torch.float32
    np.testing.assert_allclose(photo.joined([colours]), photo.target / 255, atol=1e-7)
    assert photo.decibels(photo.target / 255 + 0.1) == pytest.approx(20)
    assert isinstance(photo, Photo)


def test_a_file_is_known_by_what_is_in_it(tmp_path):
    (tmp_path / "sound.jpg").write_bytes(wav(tone(0.2)))
    (tmp_path / "photo.wav").write_bytes(saved(halves("RGB")))
    (tmp_path / "song.mp3").write_bytes(b"ID3" + bytes(100))
    assert read_signal(tmp_path / "sound.jpg").kind == "sound"
    assert read_signal(tmp_path / "photo.wav").kind == "photo"
    with pytest.raises(DataError, match=r"song.mp3 is an MP3 file; save it as WAV"):
        read_signal(tmp_path / "song.mp3")
    with pytest.raises(DataError, match="there is no such file"):
        read_signal(tmp_path / "none.jpg")
