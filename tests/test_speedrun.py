"""The race to one accuracy: what it tests and when, what the clock counts, and the entry it leaves."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastadapt.published.registry import EXPERIMENTS

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "speedrun.py"
RESULT = ROOT / "benchmarks" / "results" / "speedrun.json"


def command(folder, bar, *words):
    line = [sys.executable, str(SCRIPT), "--smoke", str(bar), "--run", str(folder), "--what", "a test", *words]
    return line, {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def raced(folder, bar, *words):
    line, environment = command(folder, bar, *words)
    return subprocess.run(line, check=False, capture_output=True, text=True, env=environment)


def entries(folder):
    return json.loads((folder / "speedrun.json").read_text())["entries"]


@pytest.fixture
def script(monkeypatch):
    """Load the script as a module."""
    for name in ("FASTADAPT_CACHE", "TORCHINDUCTOR_CACHE_DIR"):  # it sets them, for its process
        monkeypatch.setenv(name, "")
    spec = importlib.util.spec_from_file_location("speedrun", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "speedrun", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, tmp_path):
    """Give a run of a folder without anything, and a function that notes a validation in it."""

    def validated(step, accuracy):
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "val accuracy": accuracy, "val ci95": 0.004}) + "\n")

    return script.Run(tmp_path, script.smoke(0.983), script.Clock(tmp_path / "clock.json")), validated


def note_a_test(run, validation, accuracy):
    (run.folder / "tests.json").write_text(json.dumps([*run.tests, {"validation": validation, "accuracy": accuracy}]))


def test_the_test_tasks_are_looked_at_only_where_validation_says_so(run):
    run, validated = run
    assert not run.worth_a_test
    validated(500, 0.98)
    assert not run.worth_a_test
    validated(1000, 0.983)
    assert run.worth_a_test and not run.reached
    note_a_test(run, 0.983, 0.981)
    assert not run.worth_a_test and not run.reached  # the same weights are not tried again
    validated(1500, 0.9825)
    assert not run.worth_a_test
    validated(2000, 0.983)
    assert not run.worth_a_test  # no better than what was tried
    validated(2500, 0.984)
    assert run.worth_a_test
    note_a_test(run, 0.984, 0.983)
    assert run.reached


def test_all_lives_are_on_the_clock(script, tmp_path):
    (tmp_path / "clock.json").write_text('[{"seconds": 100.5, "load": 0.2}, {"seconds": 20, "load": 3}]')
    clock = script.Clock(tmp_path / "clock.json")
    first = clock.seconds
    assert 120.5 < first < 120.5 + time.monotonic() - script.BEGAN + 1e-6
    clock.note()
    assert [life["load"] for life in json.loads((tmp_path / "clock.json").read_text())][:2] == [0.2, 3]
    assert len(clock.lives) == 3 and clock.seconds > first


@pytest.mark.long
def test_a_race_ends_where_the_test_agrees(tmp_path):
    began = time.monotonic()
    done = raced(tmp_path, 0)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    (entry,) = entries(tmp_path)
    (test,) = entry["tests"]
    assert entry["reached"] and entry["measured on"] == "test" and entry["tasks"] == 8
    assert entry["steps"] == test["step"] == 2 and entry["accuracy"] == test["accuracy"]
    assert test["protocol"] == "smoke-v1" and entry["what"] == "a test" and entry["threads"] == 1
    assert 0.5 * took < 60 * entry["minutes"] + 0.6 < took + 1.2  # from the start of the process, to 0.01 minutes
    assert (tmp_path / "cache").is_dir()


def test_a_race_that_is_over_is_not_run_again(script, tmp_path, capsys):
    (tmp_path / "clock.json").write_text("[]")
    (tmp_path / "tests.json").write_text('[{"accuracy": 0.5}]')
    with pytest.raises(SystemExit):
        script.main(["--smoke", "0.5", "--run", str(tmp_path)])
    assert "has reached 50 % already" in capsys.readouterr().err


def test_the_result_file_grows(script, tmp_path):
    race = script.smoke(0.0)
    for minutes in (3.0, 2.0):
        script.keep(tmp_path / "speedrun.json", race, {"minutes": minutes})
    assert [entry["minutes"] for entry in entries(tmp_path)] == [3.0, 2.0]


@pytest.mark.long
def test_what_is_not_reached_is_said_with_how_far_it_came(tmp_path):
    done = raced(tmp_path, 1.1)
    assert done.returncode == 0, done.stderr
    (entry,) = entries(tmp_path)
    assert not entry["reached"] and entry["tests"] == [] and entry["measured on"] == "validation"
    percent = f"{100 * entry['accuracy']:.2f} %"
    assert entry["result"] == f"not reached: {percent} after 6 steps in {entry['minutes']:.1f} minutes"


@pytest.mark.long
def test_a_killed_race_goes_on_and_its_time_counts(tmp_path):
    line, environment = command(tmp_path, 1.1)
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    lost = sum(life["seconds"] for life in json.loads((tmp_path / "clock.json").read_text()))
    assert lost > 0.5 and not (tmp_path / "speedrun.json").exists()
    done = raced(tmp_path, 1.1)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    (entry,) = entries(tmp_path)
    assert entry["lives"] == 2 and 60 * entry["minutes"] > lost + 0.5


def test_minutes_that_are_over_are_refused(script, tmp_path, capsys):
    (tmp_path / "clock.json").write_text('[{"seconds": 61.0, "load": 0}]')
    with pytest.raises(SystemExit):
        script.main(["--smoke", "--run", str(tmp_path), "--minutes", "1"])
    assert "of 1 minutes: ask for more" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(script, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit):
        script.main(["--smoke", "--run", str(tmp_path)])
    assert "is no such run and not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_published_interval_is_the_bar():
    (measurement,) = EXPERIMENTS["maml-omniglot-5w1s"].measurements
    claim = measurement.claims[measurement.protocol.report]
    content = json.loads(RESULT.read_text(encoding="utf-8"))
    assert content["bar"] == pytest.approx(claim.value - claim.spread) == pytest.approx(0.983)
    assert content["protocol"] == measurement.protocol.name and measurement.protocol.tasks == 600
    for entry in content["entries"]:
        assert entry["reached"] == any(test["accuracy"] >= content["bar"] for test in entry["tests"])
        assert all(test["validation"] >= content["bar"] and test["tasks"] == 600 for test in entry["tests"])
        assert entry["measured on"] == ("test" if entry["reached"] else "validation")
