"""Verdicts on strategies are kept for the next process; where they can't be, every process finds its own."""

import multiprocessing

import pytest

from fastadapt.engine import verdicts
from fastadapt.engine.check import Verdict


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(verdicts, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_a_verdict_is_read_again(cache):
    assert verdicts.known("a") is None
    verdicts.keep("a", Verdict(1e-9, 1e-6))
    assert verdicts.known("a") == Verdict(1e-9, 1e-6)


def test_what_can_not_be_written_stops_nothing(cache):
    verdicts.keep("a", Verdict(1e-9, 1e-6))
    place = next(cache.rglob("a.json"))
    place.unlink()
    place.mkdir()  # nothing can be put in its place
    verdicts.keep("a", Verdict(1e-9, 1e-6))
    assert verdicts.known("a") is None


def keep_often(times):
    for _ in range(times):
        verdicts.keep("a", Verdict(1e-9, 1e-6))


@pytest.mark.long
def test_processes_may_keep_one_verdict_at_the_same_time(cache):
    several = [multiprocessing.get_context("fork").Process(target=keep_often, args=(60,)) for _ in range(3)]
    for process in several:
        process.start()
    for process in several:
        process.join(100)
    assert [process.exitcode for process in several] == [0, 0, 0]
    assert verdicts.known("a") == Verdict(1e-9, 1e-6) and [p.name for p in cache.rglob("*.tmp")] == []
