import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.long
def test_the_sinusoid_example_runs_and_goes_on(tmp_path):
    command = [
        sys.executable,
        str(FOLDER / "sinusoid.py"),
        "--steps",
        "20",
        "--tasks",
        "8",
        "--out",
        str(tmp_path / "demo"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert all(name in first.stdout for name in ("MAML", "pretraining", "oracle", "10 steps", "8 test tasks"))
    facts = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert facts["results"]["MAML"]["10"]["protocol"]["tasks"] == 8
    assert len(facts["results"]["MAML"]["10"]["mean"]) == 11
    assert len(facts["results"]["oracle"]["10"]["mean"]) == 1
    shown = f"{facts['results']['MAML']['10']['mean'][10]:.4f}"
    assert shown in first.stdout
    assert facts["training"]["steps"] == 20 and {"torch", "python", "fastadapt"} <= set(facts["versions"])
    assert all((tmp_path / "demo" / name).stat().st_size > 10_000 for name in ("adaptation.png", "steps.png"))

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown in again.stdout and "going on from step 20" in again.stderr


@pytest.mark.long
def test_the_example_with_own_images_runs_and_goes_on(tmp_path):
    words = [str(FOLDER / "own_images.py"), "--steps", "4", "--tasks", "6", "--out", str(tmp_path / "shapes")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FASTADAPT_CACHE": str(tmp_path / "cache")}
    first, again = (
        subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert "396 usable images of 33 classes, to be trained on at 28x28 pixels in grey" in first.stdout
    assert "95 % CI, 6 tasks" in first.stdout and "adapted run to 3 classes" in first.stdout
    assert sum("corners" in line.split("\t")[-3] for line in first.stdout.splitlines() if line.count("\t") == 3) == 6
    split = json.loads((tmp_path / "shapes" / "run" / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [21, 5, 7]
    assert again.returncode == 0 and "going on from step 4" in again.stderr


@pytest.mark.long
@pytest.mark.parametrize("name, said", [("own_series", "protocol machines-v1"), ("own_text", "protocol readers-v1")])
def test_the_examples_of_series_and_text_run(name, said, tmp_path):
    tasks = ["--tasks", "10"] if name == "own_series" else []
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--steps", "3", *tasks]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout and "95 % CI" in done.stdout


@pytest.mark.long
def test_the_example_of_frozen_features_runs():
    if not os.environ.get("FASTADAPT_DATA"):
        pytest.skip("needs the real Omniglot: set FASTADAPT_DATA to the folder that has it")
    command = [sys.executable, str(FOLDER / "frozen_features.py"), "--tasks", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = {line[:26].strip(): float(line[26:].split()[0]) for line in done.stdout.splitlines()}
    assert len(lines) == 8 and min(lines.values()) > 85  # of 5 classes, from 5 images each


@pytest.mark.long
def test_the_table_example_runs(tmp_path):
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        str(FOLDER / "own_table.py"),
        "--steps",
        "20",
        "--shops",
        "12",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sales for a new shop" in done.stdout and "**MAML**" in done.stdout and "ridge towards" in done.stdout
    assert list(tmp_path.iterdir()) == []
