"""No home, no language, another hash seed, a clock that jumps: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reliability.short_run import same, train

pytestmark = pytest.mark.long
PLAIN = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
MACHINES = {
    "plain": {},
    "no home": {"HOME": ""},
    "a home that is a file": {"HOME": "/dev/null"},
    "C": {"LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "12345"},
    "ASCII alone": {"LC_ALL": "C", "PYTHONUTF8": "0"},
}
WORDS = ["train", "maml-sinusoid", "--training.steps", "4", "--training.meta-batch", "2", "--training.validate-every"]
WORDS += ["2", "--validation-tasks", "3", "--protocol.tasks", "5", "--threads", "1", "--run"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bytes of the weights that each machine ends with."""
    found = {}
    for name, environment in MACHINES.items():
        folder = tmp_path_factory.mktemp("machine") / ("runs" if name == "ASCII alone" else "läufe")
        command = [sys.executable, "-m", "fastadapt", *WORDS, str(folder)]
        done = subprocess.run(
            command, env={**PLAIN, **environment}, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
        found[name] = (folder / "model" / "learner.safetensors").read_bytes()
    return found


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "plain"])
def test_a_machine_changes_no_number(weights, name):
    assert weights[name] == weights["plain"]


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch):
    whole = train(tmp_path / "whole")
    jumps = iter(range(0, -10_000_000, -86_400))
    monkeypatch.setattr("time.time", lambda: 1.7e9 + next(jumps))  # a day back at every look
    assert same(train(tmp_path / "jumping"), whole)
