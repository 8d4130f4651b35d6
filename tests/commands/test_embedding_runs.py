"""From a folder of pictures to answers by a head on frozen features, each step a command."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.onnx_files import write
from drawn_folder import content, picture, put
from fastadapt.cli import main
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.runs.run_files import export_learner, load_run, read_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def made(here: Path) -> Path:
    """Write features whose classes lie around points of their own."""
    rng = np.random.default_rng(0)
    points, labels = 3 * rng.normal(size=(12, 6)), np.repeat(np.arange(12), 10)
    rows = points[labels] + rng.normal(size=(120, 6)) + 5
    np.savez(here / "f.npz", features=rows, labels=np.array([f"c{label:02}" for label in labels]))
    return here / "f.npz"


def train(*words: str) -> int:
    return main(["train", "--data", "f.npz", "--ways", "3", "--val", "0", "--tasks", "20", "--quiet", *words])


@pytest.mark.long
@pytest.mark.parametrize("head", ["centroid", "l2n", "cl2n", "ridge", "linear", "cosine", "nearest"])
def test_every_head_is_a_run(head: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--head", head, "--shots", "3", "--steps", "3") == 0
    told = capsys.readouterr().out
    assert ("has nothing to train" in told) == (head != "ridge") and "chance 0.3333" in told
    run = Path("runs") / f"{head}-f"
    first = json.loads((run / "evaluation.json").read_text())
    assert first["mean"][0] > 0.8
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == first["mean"]
    assert main(["adapt", str(run), "f.npz", "--shots", "4", "--out", "mine"]) == 0
    assert "12 classes" in capsys.readouterr().out
    assert main(["predict", "mine", "f.npz", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)[0]["rows"]
    assert len(rows) == 120 and np.isclose(sum(rows[5]["probabilities"].values()), 1)
    right = [row["label"] == f"c{number // 10:02}" for number, row in enumerate(rows)]
    assert np.mean(right) > 0.6  # of 12 classes
    assert train("--head", head, "--shots", "3", "--steps", "3") == 0  # the same command again


def test_cl2n_takes_the_mean_of_the_training_classes_alone(made: Path) -> None:
    assert train("--head", "cl2n") == 0
    data = read_config(Path("runs/cl2n-f")).data
    assert sorted(data.train_classes + data.val_classes + data.test_classes) == [f"c{i:02}" for i in range(12)]
    split = json.loads(Path("runs/cl2n-f/split.json").read_text())
    assert tuple(split["test"]) == data.test_classes and split["images"] == data.digest
    every = read_embeddings(made)
    rows = [i for i, label in enumerate(every.labels) if every.class_names[label] in data.train_classes]
    learner = load_run("runs/cl2n-f").learner
    torch.testing.assert_close(learner.centre, every.features[rows].double().mean(0).float())
    support = (every.features[[0, 10, 20]], torch.arange(3))
    z = F.normalize(every.features - learner.centre, dim=1)
    wanted = torch.cdist(z, z[[0, 10, 20]]).argmin(1)
    assert torch.equal(learner.adapt(support)(every.features).argmax(1), wanted)


def test_ridge_trains_two_numbers_and_goes_on(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--head", "ridge", "--steps", "2", "--method.strength", "0.5") == 0
    learner = load_run("runs/ridge-f").learner
    assert learner.log_strength.exp().item() != 0.5 and learner.scale.item() != 10.0
    assert load_run("runs/ridge-f").step == 2
    assert train("--head", "ridge", "--steps", "2", "--method.strength", "0.7", "--run", "runs/ridge-f") == 2
    assert "holds a run with other settings (method.strength: 0.5 -> 0.7)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--head", "svm"], "there is no head 'svm'; choose one of centroid"),
        (["--shots", "0"], "--shots must be at least 1, got 0"),
        (["--ways", "9"], "9-way tasks take 9 classes in each of train, test"),
        (["--shots", "10"], "has 10 embeddings, and 10 shots and 1 query take 11"),
        (["--class-column", "kind"], "has no array 'kind', only 'features', 'labels'"),
        (["--data", "g.npz"], "there is no such file"),
        (["--data", "g.pt"], "a pickle, which may run code"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    words: list[str], told: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error and not Path("runs").exists()


@pytest.mark.long
def test_from_a_folder_to_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for c in range(9):  # classes differ in colour
        for i in range(6):
            image = picture(100 * c + i, 16, 16, "RGB").point([min(255, v // 4 + 20 * c) for v in range(256)] * 3)
            put(here / "photos" / f"class{c}" / f"{i}.png", content(image))
    write(here / "net.onnx")
    words = ["embed", "photos", "--backbone", "net.onnx", "--values", "signed", "--out", "f.safetensors"]
    assert main(words) == 0
    assert "54 embeddings of 5 numbers, 9 classes, by ONNX" in capsys.readouterr().out
    sizes = ["--ways", "3", "--shots", "2", "--tasks", "9"]
    assert main(["train", "--data", "f.safetensors", "--head", "centroid", *sizes]) == 0
    assert read_config(Path("runs/centroid-f")).data.queries == 4
    assert main(["adapt", "runs/centroid-f", "photos", "--out", "mine"]) == 2
    assert "write those of its pictures with fastadapt embed photos" in capsys.readouterr().err
    assert main(["adapt", "runs/centroid-f", "f.safetensors", "--steps", "3", "--out", "mine"]) == 2
    assert "leave --steps out" in capsys.readouterr().err
    assert main(["adapt", "runs/centroid-f", "f.safetensors", "--out", "mine"]) == 0
    capsys.readouterr()
    assert main(["predict", "mine", "f.safetensors"]) == 0
    assert "class3/2.png" in capsys.readouterr().out
    write(here / "net.onnx", seed=5)
    assert main([*words[:-1], "other.safetensors"]) == 0
    assert main(["predict", "mine", "other.safetensors"]) == 2
    assert "compute the embeddings by the same backbone" in capsys.readouterr().err
    os.remove("f.safetensors")  # noqa: PTH107
    assert main(["evaluate", "runs/centroid-f"]) == 2
    assert "give the embeddings with --data" in capsys.readouterr().err


@pytest.mark.long
def test_columns_are_found_by_name_from_training_to_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(9, 5)), np.repeat(np.arange(9), 10)
    rows = points[labels] + 0.2 * rng.normal(size=(90, 5))

    def write(name: str, order: list[int], *, stem: str = "f", index: bool = False, classes: bool = True) -> None:
        head = ["id"] * index + ["label"] * classes + [f"{stem}{i}" for i in order]
        shuffled = rng.permutation(90)
        lines = [
            [str(shuffled[row])] * index + [f"c{labels[row]}"] * classes + [f"{rows[row, i]:.4f}" for i in order]
            for row in range(90)
        ]
        (here / name).write_text("\n".join(",".join(line) for line in (head, *lines)))

    write("f.csv", [0, 1, 2, 3, 4], index=True)
    write("turned.csv", [4, 3, 2, 1, 0])
    write("asked.csv", [2, 0, 4, 3, 1], classes=False, index=True)
    write("strange.csv", [0, 1, 2, 3, 4], stem="g", classes=False)
    words = ["train", "--data", "f.csv", "--head", "centroid", "--ways", "3", "--queries", "5", "--val", "0"]
    assert main([*words, "--tasks", "20", "--quiet"]) == 0
    assert read_config(Path("runs/centroid-f")).data.columns == ("f0", "f1", "f2", "f3", "f4")
    first = json.loads(Path("runs/centroid-f/evaluation.json").read_text())["mean"]
    assert first[0] > 0.9 and main([*words, "--tasks", "20", "--quiet"]) == 0  # the same command again
    assert main(["adapt", "runs/centroid-f", "turned.csv", "--out", "mine"]) == 0
    (here / "turned.csv").replace(here / "f.csv")
    capsys.readouterr()
    assert main(["evaluate", "runs/centroid-f", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["mean"] == first and "does not hold the embeddings" not in told.err
    assert main(["predict", "mine", "asked.csv", "--json"]) == 0
    answers = [row["label"] for row in json.loads(capsys.readouterr().out)[0]["rows"]]
    assert np.mean([label == f"c{number}" for label, number in zip(answers, labels, strict=True)]) > 0.9
    assert main(["predict", "mine", "strange.csv"]) == 2
    assert "has none of the columns of the training, f0 to f4, but g0 to g4" in capsys.readouterr().err


@pytest.mark.long
def test_a_run_that_kept_no_names_goes_on_by_length(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).round(3)
    lines = [f"c{n % 6},{','.join(map(str, row))}" for n, row in enumerate(rows.tolist())]
    (here / "f.csv").write_text("\n".join(["label,f0,f1,f2", *lines]))
    words = ["train", "--data", "f.csv", "--head", "centroid", "--ways", "2", "--queries", "5", "--val", "0"]
    assert main([*words, "--tasks", "20", "--quiet"]) == 0
    first = (here / "runs/centroid-f/evaluation.json").read_text()
    run = load_run(Path("runs/centroid-f"))
    config = replace(run.config, data=replace(run.config.data, columns=()))
    assert run.config.data.columns == ("f0", "f1", "f2") and '"columns"' not in config.to_json()
    (here / "runs/centroid-f/config.json").write_text(config.to_json())
    export_learner(Path("runs/centroid-f"), config, run.learner.state_dict(), 0)
    capsys.readouterr()
    assert main(["evaluate", "runs/centroid-f", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == json.loads(first)["mean"]
    assert "the run does not say what its features were called" in caplog.text
    assert main(["adapt", "runs/centroid-f", "f.csv", "--out", "mine"]) == 0
    caplog.clear()
    assert main(["predict", "mine", "f.csv"]) == 0
    assert "are taken in their order, f0 to f2" in caplog.text
    assert main([*words, "--tasks", "20", "--quiet"]) == 0  # the same command is the same run
