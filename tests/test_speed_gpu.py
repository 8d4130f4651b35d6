"""The measurement on a GPU, as far as a CPU shows it: the whole path at tiny sizes, and what ends a part."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "speed"


def run(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SPEED / "gpu.py"), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def modules(monkeypatch):
    """Make the modules of the benchmark importable, for one test."""
    known, path = set(sys.modules), list(sys.path)
    monkeypatch.syspath_prepend(str(SPEED))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if str(SPEED) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.long
def test_without_a_gpu_it_says_so_in_one_sentence_and_fails(tmp_path):
    done = run("--out", tmp_path)
    assert done.returncode != 0
    assert done.stdout.strip().count("\n") == 0
    assert "torch sees none" in done.stdout
    assert not done.stderr
    assert not list(tmp_path.iterdir())


def check(path, parts):
    content = json.loads(path.read_text())
    assert list(content["parts"]) == parts
    for part, rows in content["parts"].items():
        ok = [row for row in rows if row["status"] == "ok"]
        assert ok, rows
        for row in rows:
            away = row["way"].startswith(("ours, graph", "JAX"))
            assert row["status"] == "ok" or (
                away and ("GPU alone" in row["status"] or "not installed" in row["status"])
            )
        if part not in ("train", "convolutions"):
            errors = {row["way"]: row["error"] for row in ok}
            assert errors["ours, vmap"] <= 10 * errors["plain loop"] + 1e-5
    return content


@pytest.mark.long
def test_the_path_runs_at_tiny_sizes(tmp_path):
    done = run("--device", "cpu", "--smoke", "--out", tmp_path, "--parts", "sinusoid-k1")
    assert done.returncode == 0, done.stderr
    content = check(tmp_path / "gpu-smoke.json", ["sinusoid-k1"])
    assert str(tmp_path) not in content["command"]


def test_the_page_has_a_table_of_each_kind_and_what_was_not_measured(tmp_path, modules):
    import gpu_table

    ok = {"status": "ok", "seconds": 0.0188, "error": 1.9e-6, "peak_mb": 1200.0}
    shape = {"images": 5, "channels": 1, "filters": 64, "side": 28, "tasks": 32}
    content = {
        "command": "python benchmarks/speed/gpu.py",
        "date": "2026-01-02T00:00:00",
        "machine": {"device": "a card", "torch": "2", "cuda": "13", "python": "3"},
        "parts": {
            "sinusoid-k1": [{"way": "plain loop", **ok}, {"way": "ours, graph", "status": "failed: so"}],
            "train": [{"way": "train it", "status": "ok", "steps/s": 80.0, "data": "Omniglot"}],
            "convolutions": [{**shape, "way": "patches", **ok}],
        },
    }
    (tmp_path / "gpu.json").write_text(json.dumps(content))
    page = gpu_table.lines(tmp_path / "gpu.json")
    assert "| sinusoid MLP, 25 tasks, k = 1 | 18.8 ms |" in page
    assert "| sinusoid MLP, 25 tasks, k = 1 | 1.9e-06 |" in page
    assert "| sinusoid MLP, 25 tasks, k = 1 | 1200 MB |" in page
    assert "| 32 tasks of 5, 1 to 64, 28x28 | 18.8 ms |" in page
    assert "`fastadapt train it`: 80 outer steps a second, of Omniglot." in page
    assert page[-1] == "- ours, graph: failed: so (sinusoid-k1)"


@pytest.mark.slow
def test_every_part_runs_at_tiny_sizes(tmp_path, modules):
    import gpu

    done = run("--device", "cpu", "--smoke", "--out", tmp_path, "--seconds", 900)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "gpu-smoke.json", list(gpu.LIMITS))


def said(*lines):
    """Return a stand-in for the second process that says these things, and waits for ever at a None."""
    started = []

    class Child:
        def __init__(self, options, parts):
            self.lines = list(lines[len(started)])
            started.append(list(parts))

        def next(self, until):
            line = self.lines.pop(0) if self.lines else {}
            if line is None:
                time.sleep(max(0.0, until - time.monotonic()))
            return line

        def close(self):
            pass

    return Child, started


ROW = {"row": {"way": "plain loop", "status": "ok", "seconds": 1.0}}


def measured(monkeypatch, child, seconds=60.0, parts=("sinusoid-k1", "sinusoid-k5", "train")):
    import gpu

    monkeypatch.setattr(gpu, "Child", child)
    monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(gpu.LIMITS, 0.05))
    content = {"parts": {}}
    gpu.measured(SimpleNamespace(seconds=seconds, parts=list(parts)), content, lambda: None)
    return {part: [row["status"] for row in rows] for part, rows in content["parts"].items()}


def test_a_part_that_hangs_or_dies_is_a_line_and_the_next_one_runs(monkeypatch, modules):
    child, started = said(
        [{"machine": {}}, {"part": "sinusoid-k1"}, ROW, None],
        [{"machine": {}}, {"part": "sinusoid-k5"}, ROW],  # and then its end
        [{"machine": {}}, {"part": "train"}, ROW, {"done": True}],
    )
    found = measured(monkeypatch, child)
    assert found["sinusoid-k1"] == ["ok", "ended: it took too long"]
    assert found["sinusoid-k5"] == ["ok", "ended: its process did"]
    assert found["train"] == ["ok"]
    assert started == [["sinusoid-k1", "sinusoid-k5", "train"], ["sinusoid-k5", "train"], ["train"]]


def test_an_error_of_the_device_ends_its_process(monkeypatch, modules):
    broken = {"row": {"way": "ours, graph", "status": "failed: RuntimeError: CUDA error: an illegal address"}}
    child, started = said(
        [{"part": "sinusoid-k1"}, broken], [{"part": "sinusoid-k5"}, ROW, {"part": "train"}, ROW, {"done": True}]
    )
    found = measured(monkeypatch, child)
    assert list(found) == ["sinusoid-k1", "sinusoid-k5", "train"]
    assert len(started) == 2


def test_when_the_time_is_over_the_rest_is_listed(monkeypatch, modules):
    child, _ = said([{"part": "sinusoid-k1"}, ROW, None])
    found = measured(monkeypatch, child, seconds=-5.0)
    assert set(found) == {"sinusoid-k1", "sinusoid-k5", "train"}
    assert all(statuses == ["not run: -5 s were over"] for statuses in found.values())


def test_without_a_result_the_page_says_so(modules, tmp_path):
    import gpu_table

    assert gpu_table.lines(tmp_path / "gpu.json") == [
        "Not measured: no GPU has run this since there are graphs. `make speed-gpu` does, and writes tables."
    ]
