"""Faces through the command line: train, go on, evaluate, draw, verify, identify, and what is refused."""

import json
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from faces.small_faces import small_faces, write_pack, write_tree
from fastadapt.cli import main
from fastadapt.commands.identify import enrolled, sentence, told_apart
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.errors import ConfigError, DataError
from fastadapt.faces.settings import CDTMethod, MFRMethod, MLDGMethod, PooledMethod
from fastadapt.nets.settings import FacesNet, MLPNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS

SMALL = [
    *("--data.domains", "lab", "yard", "attic", "--data.targets", "cellar", "--data.batch", "4"),
    *(
        "--data.home-batch",
        "2",
        "--data.size",
        "16",
        "--net.widths",
        "8",
        "--net.features",
        "8",
        "--protocol.tasks",
        "4",
    ),
    *("--validation-tasks", "4", "--training.log-every", "2", "--training.checkpoint-every", "2", "--quiet"),
]


def train(folder, data, *words, preset="faces-mfr", steps=4):
    place = ("--run", str(folder), "--data", str(data))
    often = ("--training.steps", str(steps), "--training.validate-every", "2")
    return main(["train", preset, *place, *often, *SMALL, *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a small pack; 40 steps."""
    place = tmp_path_factory.mktemp("faces")
    write_pack(place / "faces64.npz", small_faces())
    assert train(place / "run", place, preset="faces-pooled", steps=40) == 0
    return place


@pytest.mark.long
def test_a_run_measures_the_target_and_chooses_a_threshold_at_home(trained, capsys):
    told = json.loads((trained / "run" / "verification.json").read_text())
    assert [each["domain"] for each in told["targets"]] == ["cellar"]
    assert told["targets"][0]["identities"] == 12
    assert told["threshold"]["domains"] == ["lab", "yard", "attic"] and told["threshold"]["part"] == "val"
    assert {path.name for path in (trained / "run" / "report").iterdir()} == {
        *("curves.png", "hardest.png", "roc.png", "similarities.png")
    }
    auc = told["targets"][0]["numbers"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"] and auc["value"] > 0.7
    assert main(["evaluate", str(trained / "run"), "--data", str(trained), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["targets"] == told["targets"] and again["threshold"] == told["threshold"]
    assert main(["report", str(trained / "run"), "--data", str(trained)]) == 0


@pytest.mark.long
def test_poison_in_the_target_changes_no_weight(trained, tmp_path):
    faces = small_faces()
    faces.images[faces.images_of(faces.people(["cellar"]))] //= 3
    write_pack(tmp_path / "faces64.npz", faces)
    for place in (trained, tmp_path):
        assert train(tmp_path / f"run {place == trained}", place, "--training.seed", "3") == 0
    weights = [(tmp_path / f"run {own}" / "model" / "learner.safetensors").read_bytes() for own in (True, False)]
    assert weights[0] == weights[1]


@pytest.mark.long
def test_a_stopped_run_goes_on_as_one_that_never_stopped(trained, tmp_path):
    constant = ("--training.schedule", "constant")
    for steps in (2, 4):
        assert train(tmp_path / "twice", trained, *constant, preset="faces-cdt", steps=steps) == 0
    assert train(tmp_path / "once", trained, *constant, preset="faces-cdt", steps=4) == 0
    weights = [(tmp_path / name / "model" / "learner.safetensors").read_bytes() for name in ("once", "twice")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["faces-pooled", "faces-mfr", "faces-cdt"])
def test_two_processes_train_the_weights_of_one_and_measure_once(trained, tmp_path, preset):
    shared = ("--training.meta-batch", "2", "--threads", "1")
    assert train(tmp_path / "one", trained, *shared, preset=preset) == 0
    place = ("--run", str(tmp_path / "two"), "--data", str(trained), "--processes", "2")
    often = ("--training.steps", "4", "--training.validate-every", "2")
    words = [sys.executable, "-m", "fastadapt", "train", preset, *place, *often, *SMALL, *shared]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights of step 4 of 4") == 1
    one, two = (load_file(tmp_path / name / "model" / "learner.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-5) for name in one)
    assert (tmp_path / "two" / "verification.json").is_file()


@pytest.mark.long
def test_two_images_are_compared_and_people_ranked(trained, tmp_path, capsys):
    faces = small_faces()
    people = write_tree(tmp_path / "tree", faces) / "cellar"
    gallery, probes = tmp_path / "gallery", []
    gallery.mkdir()
    for person in sorted(people.iterdir()):
        first, second, _ = sorted(person.iterdir())
        Image.open(first).save(gallery / f"{person.name}.png")
        probes.append(tmp_path / f"{person.name}.jpg")
        Image.open(second).convert("RGB").resize((40, 40)).save(probes[-1], quality=95)
    capsys.readouterr()
    run = ["--run", str(trained / "run")]
    assert main(["verify", str(gallery / "036.png"), str(probes[0]), *run]) == 0
    out = capsys.readouterr().out
    assert "validation identities of lab, yard, attic" in out and "not an identification" in out
    assert "possibly one person" in out or "probably not one person" in out
    assert main(["verify", str(gallery / "036.png"), str(gallery / "036.png"), *run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cosine"] == pytest.approx(1.0)
    assert main(["identify", str(gallery), *map(str, probes), *run, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    right = [answer["ranked"][0]["person"] == probe.stem for answer, probe in zip(answers, probes, strict=True)]
    assert np.mean(right) > 0.5
    assert all([r["cosine"] for r in a["ranked"]] == sorted((r["cosine"] for r in a["ranked"]), reverse=True)
               for a in answers)  # fmt: skip


@pytest.mark.long
def test_what_can_not_be_compared_is_told_in_a_sentence(trained, tmp_path, capsys):
    picture = tmp_path / "a.png"
    Image.new("L", (64, 64), 9).save(picture)
    (tmp_path / "text.png").write_text("no image")
    run = ["--run", str(trained / "run")]
    for words, said in (
        (["verify", str(picture), str(tmp_path / "none.png"), *run], "there is no such file"),
        (["verify", str(picture), str(tmp_path / "text.png"), *run], "is not a PNG, JPEG, WebP or GIF"),
        (["verify", str(picture), str(picture), *run, "--threshold", "2"], "in -1..1, got 2.0"),
        (["verify", str(picture), str(picture), "--run", "drawing"], "is a run on image, and this is for faces"),
        (["verify", str(picture), str(picture), "--run", str(tmp_path)], "can't load"),
        (["identify", str(tmp_path / "nowhere"), str(picture), *run], "can't read the gallery"),
        (["identify", str(tmp_path), *run], "there is nobody to look for"),
        (["evaluate", str(trained / "run"), "--tasks", "5", "--nil"], "leave --tasks, --nil out"),
        (["adapt", str(trained / "run"), str(tmp_path), "--out", str(tmp_path.parent / "p")], "two people or more"),
        (["serve", str(trained / "run")], "faces"),
    ):
        assert main(words) == 2, words
        assert said in capsys.readouterr().err


@pytest.mark.long
def test_a_run_is_adapted_to_a_few_people_and_used_with_a_threshold_of_its_own(trained, tmp_path, capsys):
    people = write_tree(tmp_path / "tree", small_faces()) / "cellar"
    for person in sorted(people.iterdir())[4:]:
        shutil.rmtree(person)
    out = tmp_path / "here"
    assert main(["adapt", str(trained / "run"), str(people), "--out", str(out), "--steps", "3"]) == 0
    told = capsys.readouterr().out
    assert "to 4 people, 12 images, in 3 steps" in told and "10 people or more are advised" in told
    picture = str(next(people.rglob("*.png")))
    assert main(["verify", picture, picture, "--run", str(out)]) == 2  # the old threshold is not that of other weights
    assert "has no threshold yet" in capsys.readouterr().err
    assert main(["verify", picture, picture, "--run", str(out), "--threshold", "0.5"]) == 0
    before, after = ((trained / "run", out)[i] / "model" / "learner.safetensors" for i in (0, 1))
    assert before.read_bytes() != after.read_bytes()
    assert main(["adapt", str(trained / "run"), str(people), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    shutil.rmtree(people / "036")
    (people / "037" / "0111.png").rename(people / "loose.png")
    assert main(["adapt", str(trained / "run"), str(people), "--out", str(tmp_path / "b"), "--shots", "1"]) == 2
    assert "too few images to make a pair" in capsys.readouterr().err


def test_a_gallery_has_one_image_of_each_person(tmp_path):
    for name in ("ann.png", "bob.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert list(enrolled(tmp_path)) == ["ann", "bob"]
    (tmp_path / "bob.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="'bob' has two images"):
        enrolled(tmp_path)
    (tmp_path / "nobody").mkdir()
    with pytest.raises(DataError, match="has no image"):
        enrolled(tmp_path / "nobody")


def test_hidden_files_are_nobody_and_folders_are_refused(tmp_path, caplog):
    for name in ("ann.png", "bob.png", "Bob.png", "._bob.png", ".hidden.png", "__MACOSX/._ann.png", "@notes/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert sorted(enrolled(tmp_path)) == ["Bob", "ann", "bob"]
    assert "the people 'Bob' and 'bob' differ in case alone" in caplog.text
    (tmp_path / unicodedata.normalize("NFC", "rené.png")).write_bytes(b"x")
    (tmp_path / unicodedata.normalize("NFD", "rené.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match="'rené' has two images"):
        enrolled(tmp_path)
    (tmp_path / "more" / "zoe").mkdir(parents=True)
    (tmp_path / "more" / "zoe" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match="more is a folder with images"):
        enrolled(tmp_path)


def test_two_people_with_one_picture_are_refused():
    told_apart(["ann", "bob"], np.eye(2))
    with pytest.raises(DataError, match="one picture is enrolled for two people, 'ann' and 'cy'"):
        told_apart(["ann", "bob", "cy"], np.eye(2)[[0, 1, 0]])


def test_nobody_is_named_below_the_threshold():
    ranked = [{"person": "ann", "cosine": 0.4, "above_threshold": False}]
    assert sentence({"probe": "x.png", "ranked": ranked}).startswith("x.png: nobody is above the threshold")
    ranked = [{"person": "ann", "cosine": 0.9, "above_threshold": True}]
    assert "possibly ann" in sentence({"probe": "x.png", "ranked": ranked})


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("faces-")])
def test_presets_are_written_read_and_built(name):
    what, config = PRESETS[name]
    assert "ours only" in what  # no published number stands behind them
    again = RunConfig.from_json(config.to_json())
    assert again == config
    assert again.build().signature() == config.build().signature()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RunConfig(data=FacesData(), net=FacesNet()), "MAMLMethod does not go with FacesData"),
        (lambda: RunConfig(method=MFRMethod()), "MFRMethod does not go with SinusoidData"),
        (lambda: RunConfig(data=FacesData(), net=FacesNet(), method=PooledMethod()).build(), "set it to 'pooled'"),
        (
            lambda: RunConfig(data=FacesData(splits="pooled"), net=FacesNet(), method=MLDGMethod()).build(),
            "set it to 'random'",
        ),
        (lambda: RunConfig(data=FacesData(), method=MFRMethod(), net=MLPNet(norm=True)).build(), "with batch norm"),
        (lambda: RunConfig(data=FacesData(), method=CDTMethod(metric="x"), net=FacesNet()).build(), "got 'x'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
