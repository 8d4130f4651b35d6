"""A training that is killed at any of its writes goes on, and ends with the bits of one that was not."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from fastadapt.training.checkpoint import latest_checkpoint
from reliability.short_run import STEPS, same, train

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def in_a_child(work):
    """Return the exit status of a process that does something: below 0 the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(boundary, folder):
    """Train, and be killed right before the write of that number; count them all for None."""
    seen = 0
    flush = os.fsync

    def reached():
        nonlocal seen
        seen += 1
        if seen == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, arguments):
        writes = event == "open" and isinstance(arguments[1], str) and any(mode in arguments[1] for mode in "wax+")
        if writes or event in CHANGES:
            reached()

    def flushed(handle):
        reached()
        flush(handle)

    sys.addaudithook(watch)
    os.fsync = flushed
    train(folder)
    (folder.parent / "count").write_text(str(seen), encoding="utf-8")


def resumed(folder):
    torch.save(train(folder), folder.parent / "weights.pt")


def outcome(place: Path, boundary, whole):
    """Return what is wrong with a run that was killed at a write, or nothing."""
    place.mkdir()
    folder = place / "run"
    if (code := in_a_child(lambda: killed_at(boundary, folder))) != -signal.SIGKILL:
        return f"write {boundary}: ended with {code}"
    if (code := in_a_child(lambda: resumed(folder))) != 0:
        return f"write {boundary}: the resume ended with {code}"
    if not same(torch.load(place / "weights.pt"), whole):
        return f"write {boundary}: other weights"
    last = latest_checkpoint(folder / "checkpoints")
    if last is None or last.step != STEPS or list(folder.rglob("*fastadapt*.tmp")):
        return f"write {boundary}: no last checkpoint, or leftovers"
    return None


def count_and_whole(place):
    place.mkdir()
    assert in_a_child(lambda: killed_at(None, place / "run")) == 0
    assert in_a_child(lambda: resumed(place / "run")) == 0
    return int((place / "count").read_text(encoding="utf-8")), torch.load(place / "weights.pt")


@pytest.mark.long
def test_a_run_that_is_killed_at_one_of_its_writes_goes_on(tmp_path):
    count, whole = count_and_whole(tmp_path / "whole")
    assert count > 40
    found = [outcome(tmp_path / str(b), b, whole) for b in range(1, count + 1, max(1, count // 8))]
    assert [each for each in found if each] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_is_killed_at_any_of_its_writes_goes_on(tmp_path):
    count, whole = count_and_whole(tmp_path / "whole")
    found = [outcome(tmp_path / str(b), b, whole) for b in range(1, count + 1)]
    assert [each for each in found if each] == []
