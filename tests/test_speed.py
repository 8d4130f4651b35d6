"""The comparison with other libraries: what it counts, what it refuses to time, and the page it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "speed"


def script(name, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SPEED / name), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def modules(monkeypatch):
    """Make the modules of the benchmark importable, for one test."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(SPEED))
    yield
    for name in set(sys.modules) - known:
        if str(SPEED) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_performance_page_is_what_the_result_file_says():
    done = script("report.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_arithmetic_of_a_meta_step_is_that_of_its_products(modules):
    import flops
    from workloads import WORKLOADS

    pixels, kernel = (28**2, 14**2, 7**2, 3**2), 2 * 64 * 9
    first, *others = (p * kernel * (1 if i == 0 else 64) for i, p in enumerate(pixels))
    deep = sum(others) + 2 * 64 * 5  # the head sees one pixel of 64 channels
    exact, plain = 4 * first + 9 * deep, 2 * first + 3 * deep
    assert flops.meta_step(WORKLOADS["omniglot-k1-q1-exact"]) == 32 * 5 * (exact + plain)
    assert flops.meta_step(WORKLOADS["omniglot-k5-q15-first-order"]) == 32 * (5 * 5 + 75) * plain
    assert flops.meta_step(WORKLOADS["reptile-omniglot"]) == 5 * 5 * 10 * plain


def test_gradients_are_compared_but_for_what_is_ignored(modules, tmp_path):
    from measure import relative_error

    np.savez(tmp_path / "a.npz", w=np.array([3.0, 4.0]), bias=np.array([7.0]))
    np.savez(tmp_path / "b.npz", w=np.array([3.0, 4.5]), bias=np.array([0.0]))
    np.savez(tmp_path / "c.npz", w=np.array([3.0, 4.5]))
    a, b, c = (tmp_path / f"{name}.npz" for name in "abc")
    assert relative_error(b, a, "bias") == pytest.approx(0.1)
    assert relative_error(b, a, "") > 0.8
    assert relative_error(c, a, "") == float("inf")


def test_an_unknown_workload_is_refused_with_what_there_is(modules):
    from workloads import chosen

    assert list(chosen(["steps"])) == [f"steps-{k}" for k in (1, 2, 5, 10, 20, 50)]
    with pytest.raises(SystemExit, match="no workload 'nonsense'; choose from sinusoid-k1"):
        chosen(["nonsense"])


@pytest.mark.slow
def test_two_implementations_are_measured_and_reported(tmp_path):
    words = ["--workloads", "sinusoid-k1", "--peers", "fastadapt", "plain", "jax", "--peers-dir", tmp_path / "none"]
    done = script("run.py", *words, "--rounds", "2", "--threads", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (workload,) = json.loads((tmp_path / "speed.json").read_text())["workloads"].values()
    rows = {row["variant"]: row for row in workload["rows"]}
    assert all(rows[name]["error"] < 1e-6 and rows[name]["ratio"] > 0 for name in ("fastadapt", "plain"))
    assert rows["jax-map"]["status"].startswith("not installed: run python benchmarks/speed/install_peers.py")
    page = tmp_path / "page.md"
    page.write_text("<!-- speed -->\n<!-- /speed -->\n")
    done = script("report.py", "--results", tmp_path / "speed.json", "--page", page)
    assert done.returncode == 0, done.stderr
    assert "| sinusoid MLP, 25 tasks, k = 1 | " in page.read_text()
