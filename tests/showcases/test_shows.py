"""Each showcase at its smallest: a learned start is above a random one after its own number of steps."""

import json
import math
import os
import random
import shutil
import signal
import threading
import time
import zipfile
from pathlib import Path

import pytest

from fastadapt.cli import main
from fastadapt.data import udhr
from fastadapt.showcases.voices import LANGUAGES
from small_mini_imagenet import small_files, write_folders


def interrupt_when(file: Path) -> None:
    """Send what Ctrl-C sends once a training writes its log."""
    while not file.exists():
        time.sleep(0.1)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.long
def test_photo(tmp_path, capsys):
    data = tmp_path / "data"
    for part in ("train", "val", "test"):
        write_folders(data, part, small_files(part, classes=4, each=8))
    out = tmp_path / "photo"
    words = ["show", "photo", "--small", "--minutes", "1.5", "--data", str(data), "--out", str(out), "--quiet"]
    started = out / "training" / "MAML" / "metrics.jsonl"
    stop = threading.Thread(target=interrupt_when, args=(started,))
    stop.start()
    assert main(words) == 130 and "goes on from there" in capsys.readouterr().out
    stop.join()
    assert not (out / "result.json").exists() and list((out / "training" / "MAML" / "checkpoints").iterdir())
    assert main(words) == 0
    told = capsys.readouterr().out
    record = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in record["starts"]}
    j = record["steps"].index(2)
    assert max(rows["MAML"]["mean"][j], rows["Reptile"]["mean"][j]) > rows["random"]["mean"][j]
    assert record["sentence"] in told and "PNG" not in told
    assert (out / "report" / "photo.png").stat().st_size > 10_000 and (out / "report" / "photo.svg").is_file()
    assert main(words) == 0  # all of it is there
    assert json.loads((out / "result.json").read_text())["starts"] == record["starts"]
    assert main([*words, "--seed", "1"]) == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err


@pytest.mark.long
def test_speech(tmp_path, capsys):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng, which reads the texts, is not installed")
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / udhr.ARCHIVE, "w") as texts:
        for codes in LANGUAGES.values():
            for voice, code in list(codes.items())[:2]:
                texts.writestr(f"udhr2/{code}.txt", f"All people are born free and equal, says {voice} {code}. " * 12)
    out = tmp_path / "speech"
    words = ["show", "speech", "--small", "--minutes", "2", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main([*words, "--quiet"]) == 0
    told = capsys.readouterr().out
    record = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in record["starts"]}
    j = record["steps"].index(3)
    assert max(rows["MAML"]["mean"][j], rows["Reptile"]["mean"][j]) > rows["random"]["mean"][j]
    assert record["sentence"] in told
    assert (out / "report" / "speech.png").stat().st_size > 10_000 and (out / "report" / "speech.svg").is_file()
    assert len(list((out / "report").glob("*.wav"))) == 5


def invented(name: str) -> str:
    """Return a text in a language of 40 words of its own."""
    drawn = random.Random(name)
    letters = drawn.sample("abcdefghijklmnopqrstuvwxyzæøå", 12)
    words = ["".join(drawn.choices(letters, k=drawn.randint(2, 7))) for _ in range(40)]
    return " ".join(drawn.choices(words, k=1800))


@pytest.mark.long
def test_language(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / udhr.ARCHIVE, "w") as texts:
        for part in ("train", "val", "test"):
            for name in udhr._splits()[part][:4]:
                texts.writestr(f"udhr2/{name}.txt", invented(name))
    out = tmp_path / "language"
    words = ["show", "language", "--small", "--minutes", "0.5", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main([*words, "--quiet"]) == 0
    told = capsys.readouterr().out
    record = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in record["starts"]}
    j = record["steps"].index(record["headline"])
    assert rows["FOMAML"]["mean"][j] < rows["pretrained"]["mean"][0] < math.log2(112)
    assert record["lower is better"] and record["test tasks"] == 4 and record["sentence"] in told
    reading = {row["name"]: row for row in record["reading on"]["rows"]}
    assert len(reading) == 5 and all(len(row["mean"]) == 4 for row in reading.values())
    assert reading["n-grams on line"]["mean"][-1] < reading["n-grams on line"]["mean"][0]
    assert (out / "report" / "language.png").stat().st_size > 10_000 and (out / "report" / "language.svg").is_file()
    assert main([*words, "--quiet"]) == 0  # all of it is there
    assert json.loads((out / "result.json").read_text())["starts"] == record["starts"]
