"""The models that come with fastadapt: there once installed, small, without a network, as good as they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

import fastadapt as fa
from fastadapt.cli import main
from fastadapt.data import load_omniglot
from fastadapt.published.registry import find
from fastadapt.results.evaluation_json import column_of
from fastadapt.runs.run_files import load_run, run_folder
from fastadapt.runs.shipped import SHIPPED, shipped_models
from fastadapt.serve.served import load_served

NAMES = ["drawing", "drawing-reptile"]
RESULTS = Path(__file__).parents[1] / "benchmarks" / "published" / "results"


def signs(folder, shift):
    """Draw a cross, a ring and a roof, each once."""
    for name in ("cross", "ring", "roof"):
        image = Image.new("L", (105, 105), 255)
        pen = ImageDraw.Draw(image)
        if name == "cross":
            pen.line((20 + shift, 20, 80, 85), 0, 3)
            pen.line((20, 80, 85, 20 + shift), 0, 3)
        elif name == "ring":
            pen.ellipse((20 + shift, 22, 85, 80 + shift), None, 0, 3)
        else:
            pen.line((15, 85, 50 + shift, 20, 90, 85), 0, 3)
        place = folder / name
        place.mkdir(parents=True)
        image.save(place / "1.png")


def test_they_are_there_and_small():
    assert shipped_models() == NAMES
    for name in NAMES:
        files = sorted(path.name for path in (SHIPPED / name).iterdir())
        assert files == ["evaluation.json", "learner.safetensors", "manifest.json", "model.json"]
        size = sum(path.stat().st_size for path in (SHIPPED / name).iterdir())
        assert size < (1_000_000 if name == "drawing" else 1_500_000)  # Reptile brings Adam's moments
        run = load_run(name)
        assert (run.name, run.fewest_ways, run.ways, run.learner.norm) == (name, 3, 10, "support")


@pytest.mark.parametrize("name", NAMES)
def test_a_new_task_is_learned_without_data_or_network(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FASTADAPT_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawing").mkdir()  # a folder that is no run does not hide the model
    signs(tmp_path / "support", 0)
    signs(tmp_path / "query", 6)
    assert main(["adapt", name, "support", "--out", "mine"]) == 0
    capsys.readouterr()
    queries = sorted((tmp_path / "query").rglob("*.png"))
    assert main(["predict", "mine", *map(str, queries), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["label"] for answer in answers] == ["cross", "ring", "roof"]


def test_a_run_of_the_same_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folder("drawing") == SHIPPED / "drawing"
    (tmp_path / "drawing").mkdir()
    (tmp_path / "drawing" / "config.json").touch()
    assert run_folder("drawing") == Path("drawing")
    with pytest.raises(fa.FastadaptError, match="no model/ yet"):
        load_run("drawing")
    with pytest.raises(fa.FastadaptError, match="nor a model that is shipped \\(drawing, drawing-reptile\\)"):
        load_run("painting")
    with pytest.raises(fa.FastadaptError, match="`fastadapt train faces-mfr` makes it"):
        load_run("runs/faces-mfr")


def test_what_is_said_of_them_is_what_was_measured():
    for name in NAMES:
        record = json.loads((RESULTS / f"{name}.json").read_text())["runs"][0]
        told = json.loads((SHIPPED / name / "evaluation.json").read_text())
        assert [row["mean"] for row in told] == [row["mean"] for row in record["measurements"]]
        assert [(row["ways"], row["shots"]) for row in told] == [(3, 1), (5, 1), (10, 1), (3, 5), (5, 5)]
    served = load_served("drawing")
    assert [method.name for method in served.methods] == ["maml", "reptile", "fine-tune", "nearest-mean"]
    assert [(row["ways"], row["alone"]) for row in served.results][:2] == [(3, True), (5, True)]


@pytest.mark.long
def test_the_accuracy_can_be_measured_again():
    if not os.environ.get("FASTADAPT_DATA"):
        pytest.skip("needs the real Omniglot: set FASTADAPT_DATA to the folder that has it")
    (experiment,) = find(["drawing"])
    narrow = next(m for m in experiment.measurements if m.name == "3 ways, 1 shot")
    run = load_run("drawing").narrowed(3)
    told = next(r for r in json.loads((SHIPPED / "drawing" / "evaluation.json").read_text()) if r["ways"] == 3)
    few = 40
    source = narrow.source(load_run("drawing").config, "test", load_omniglot())
    protocol = fa.Protocol("few", tasks=few, steps=5, seed=narrow.protocol.seed)
    result = fa.evaluate(run.learner, source, protocol)
    assert abs(float(result.mean[5]) - told["mean"][column_of(told, 5)]) < 0.04


@pytest.mark.long
def test_they_are_in_the_wheel_by_their_names():
    code = "import fastadapt as fa, torch; print(fa.load_run('drawing').learner.adapt((torch.rand(10, 1, 28, 28), "
    code += "torch.arange(10)))(torch.rand(2, 1, 28, 28)).shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0 and "[2, 10]" in done.stdout, done.stderr
    assert torch.get_num_threads() >= 1
