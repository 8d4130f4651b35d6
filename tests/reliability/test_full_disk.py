"""A disk that is really full: a sentence with the path and what is free, the last checkpoint whole, and a way on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastadapt.training.checkpoint import latest_checkpoint

pytestmark = pytest.mark.long
SETTINGS = ["--training.steps", "60", "--training.meta-batch", "2", "--training.checkpoint-every", "5"]
SETTINGS += ["--training.validate-every", "0", "--protocol.tasks", "10", "--threads", "1", "--quiet"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def train(folder, environment=None):
    command = [sys.executable, "-m", "fastadapt", "train", "maml-sinusoid", "--run", str(folder), *SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250, check=False)
    return done.returncode, done.stderr


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_loses_nothing(small_disk, tmp_path):
    folder = small_disk / "run"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3_045_000))
    code, told = train(folder)
    assert code == 2 and "Traceback" not in told
    assert f"could not write {folder}" in told and "the disk is full (" in told and "bytes free)" in told
    last = latest_checkpoint(folder / "checkpoints")
    filler.unlink()
    code, told = train(folder)
    assert code == 0, told
    assert last is None or last.step < 60
    assert train(tmp_path / "whole")[0] == 0
    weights = Path("model") / "learner.safetensors"
    assert (folder / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="a file system is mounted")
def test_a_disk_that_is_read_only_is_a_sentence(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, told = train(small_disk / "run")
    assert code == 2 and "Traceback" not in told and "read-only" in told.lower()
