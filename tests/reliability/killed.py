"""A training is killed right before one of its writes, and goes on: by processes that are forked."""

import os
import signal
import sys
import traceback
from pathlib import Path

import torch

from fastadapt.training.checkpoint import latest_checkpoint
from reliability.short_run import STEPS, same

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


def in_a_child(work):
    """Return the exit status of a process that does something: below 0 the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        except BaseException:  # which nobody else would say
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(train, boundary, folder):
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


def resumed(train, folder):
    torch.save(train(folder), folder.parent / "weights.pt")


def outcome(train, place: Path, boundary, whole, steps=STEPS):
    """Return what is wrong with a run that was killed at a write, or nothing."""
    place.mkdir()
    folder = place / "run"
    if (code := in_a_child(lambda: killed_at(train, boundary, folder))) != -signal.SIGKILL:
        return f"write {boundary}: ended with {code}"
    if (code := in_a_child(lambda: resumed(train, folder))) != 0:
        return f"write {boundary}: the resume ended with {code}"
    if not same(torch.load(place / "weights.pt"), whole):
        return f"write {boundary}: other weights"
    last = latest_checkpoint(folder / "checkpoints")
    if last is None or last.step != steps or list(folder.rglob("*fastadapt*.tmp")):
        return f"write {boundary}: no last checkpoint, or leftovers"
    return None


def count_and_whole(train, place):
    """Return how many writes a training has, and the weights at its end."""
    place.mkdir()
    assert in_a_child(lambda: killed_at(train, None, place / "run")) == 0
    assert in_a_child(lambda: resumed(train, place / "run")) == 0
    return int((place / "count").read_text(encoding="utf-8")), torch.load(place / "weights.pt")
