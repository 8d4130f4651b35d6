"""`fastadapt fit` on real files and on broken ones."""

import io
import json
import wave

import numpy as np
import pytest
from PIL import Image

from fastadapt.cli import main
from fastadapt.showcases.scene import scene
from signals.waves import tone, wav


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_photograph(here, capsys):
    Image.fromarray(scene(200)).resize((300, 200)).save("my photo.jpg")
    assert main(["fit", "my photo.jpg", "--steps", "3", "--size", "32", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    out = here / "runs" / "fit" / "my photo"
    record = json.loads((out / "fit.json").read_text())
    assert record["sentence"] in told and "PSNR in dB" in told and told.count(" dB  ") >= 4
    assert len(record["learned"]) == len(record["random"]) == 4 and record["side"] == 32
    assert record["learned"][2] > record["random"][2]
    with Image.open(out / "steps.png") as picture:
        assert picture.format == "PNG" and picture.width > 4 * 144
    assert sorted(path.name for path in out.iterdir()) == ["fit.json", "steps.png"]


def test_a_sound(here, capsys):
    (here / "a.wav").write_bytes(wav(np.stack([tone(0.5, 48_000)] * 2, 1), 48_000, 24))
    words = ["fit", "a.wav", "--steps", "4", "--seconds", "0.2", "--out", "there", "--json", "--threads", "1"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((here / "there" / "fit.json").read_text())
    assert (record["kind"], record["seconds"], record["metric"]) == ("sound", 0.2, "SNR in dB")
    sounds = sorted(path.name for path in (here / "there").glob("*.wav"))
    assert sounds == [*(f"{name}-{k}-steps.wav" for name in ("learned", "random") for k in (3, 4)), "sound.wav"]
    for name in sounds:
        with wave.open(str(here / "there" / name)) as found:
            assert (found.getframerate(), found.getnframes()) == (11_025, 2205)


def test_without_a_file_it_fits_what_it_makes_itself(here, capsys):
    assert main(["fit", "--steps", "0", "--size", "16", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("After 0 steps: ")
    assert (here / "runs" / "fit" / "example-photo" / "steps.png").is_file()


def test_in_a_terminal_both_are_shown(here, monkeypatch):
    from rich.console import Console

    from fastadapt.signals.example import example
    from fastadapt.signals.fit import fits
    from fastadapt.signals.screen import screen
    from fastadapt.signals.starts import load_pair

    for kind, signs in (("photo", "▀"), ("sound", "▄")):
        signal = example(kind, 16, 0.2)
        *_, last = fits(signal, load_pair(kind), 1)
        page = Console(file=io.StringIO(), width=120, color_system="truecolor", force_terminal=True)
        page.print(screen(signal, last, 1))
        shown = page.file.getvalue()
        assert signs in shown and f"{last.learned.decibels:.1f} dB" in shown and "step 1 of 1" in shown


@pytest.mark.parametrize(
    "words, said",
    [
        (["fit", "none.jpg"], "there is no such file"),
        (["fit", "."], "it is a folder"),
        (["fit", "text.jpg"], "not a PNG, JPEG, WebP or GIF image"),
        (["fit", "cut.png"], "damaged or cut off"),
        (["fit", "empty.wav"], "the file is empty"),
        (["fit", "silent.wav"], "is silent"),
        (["fit", "tiny.png"], "give a picture of at least 16x16"),
        (["fit", "song.wav"], "MP3"),
        (["fit", "--size", "5000"], "16 to 256 pixels a side, got 5000"),
        (["fit", "--example", "sound", "--seconds", "0"], "0.1 to 30 seconds"),
        (["fit", "--example", "sound", "--seconds", "nan"], "0.1 to 30 seconds"),
        (["fit", "--steps", "-1"], "--steps must be 0..1000, got -1"),
        (["fit", "--steps", "1001"], "got 1001"),
        (["fit", "--threads", "0"], "--threads must be at least 1"),
        (["fit", "--seed", "-1"], "--seed must be"),
        (["fit", "--steps", "0", "--size", "16", "--out", "text.jpg"], "text.jpg"),
    ],
)
def test_what_can_not_be_fitted_is_told_in_a_sentence(words, said, here, capsys):
    (here / "text.jpg").write_text("hello")
    content = io.BytesIO()
    Image.fromarray(scene(64)).save(content, "PNG")
    (here / "cut.png").write_bytes(content.getvalue()[:300])
    (here / "empty.wav").touch()
    (here / "silent.wav").write_bytes(wav(np.zeros(3000)))
    Image.new("RGB", (3, 3)).save(here / "tiny.png")
    (here / "song.wav").write_bytes(b"ID3" + bytes(50))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
