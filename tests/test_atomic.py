"""Writing: complete or not at all, and a sentence where it fails."""

from pathlib import Path

import pytest

from fastadapt.atomic import write_folder, write_text
from fastadapt.errors import CheckpointError


def test_a_file_where_a_folder_should_be_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CheckpointError, match=r"could not write .*taken.*; what was there before is unchanged"):
        write_text(tmp_path / "taken" / "file.json", "x")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_whose_filling_fails_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", lambda folder: (folder / "a").write_text("old") and None)

    def fail(folder: Path) -> None:
        (folder / "a").write_text("new")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"the disk is full \([\d,]+ bytes free\)"):
        write_folder(tmp_path / "model", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "a").read_text() == "old"


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.json", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="disk is full"):
        write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
