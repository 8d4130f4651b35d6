"""Each showcase at its smallest: a learned start is above a random one after its own number of steps."""

import json
import os
import shutil
import signal
import threading
import time
import zipfile
from pathlib import Path

import pytest

from fastadapt.cli import main
from fastadapt.showcases.voices import LANGUAGES, TEXTS
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
    with zipfile.ZipFile(tmp_path / "data" / TEXTS, "w") as texts:
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
