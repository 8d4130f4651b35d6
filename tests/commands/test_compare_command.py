"""`fastadapt compare`: methods on the same tasks, what is written, what a second call does not do again."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drawn_folder import make_folder
from fastadapt.cli import main
from fastadapt.compare.contest import KEPT, Contest, read_row, take_part
from fastadapt.compare.contestants import folder_contestants
from fastadapt.errors import DataError
from fastadapt.evaluation import confidence
from fastadapt.methods.metric_settings import RelationNetMethod
from fastadapt.runs.folder_run import Wishes
from fastadapt.training.checkpoint import latest_checkpoint

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("own") / "photos", classes=12, images=4, side=30)


def compare(photos, place, *methods, budget="10steps", **options):
    words = [f"--{name}={value}" for name, value in options.items()]
    common = ["--on", str(photos), "--ways", "3", "--tasks", "6", "--folder", str(place), "--quiet"]
    return main(["compare", *methods, *common, "--budget", budget, *words])


def steps_on_disk(place):
    return {path: path.stat().st_mtime_ns for path in place.glob("*/checkpoints/*/learner.safetensors")}


def test_methods_are_trained_and_tested_alike_and_a_second_call_trains_nothing(photos, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert compare(photos, tmp_path, "protonet", "maml") == 0
    assert "photos-3w1s" in capsys.readouterr().out
    record = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in record["methods"]] == ["protonet", "maml"]
    for row in record["methods"]:
        (result,) = row["results"].values()
        mean, half = confidence(result["per task"])
        assert len(result["per task"]) == 6
        assert (result["mean"], result["ci95"]) == (pytest.approx(mean, abs=1e-5), pytest.approx(half, abs=1e-5))
        assert row["outer steps"] == 10 and row["seconds to adapt"] > 0 and row["parameters"] > 10_000
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert "data:image/png;base64" in (tmp_path / "compare.html").read_text(encoding="utf-8")
    with (tmp_path / "compare.csv").open(encoding="utf-8") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"protonet", "maml"}

    before = steps_on_disk(tmp_path)
    assert compare(photos, tmp_path, "maml", "protonet", baseline="maml") == 0
    assert steps_on_disk(tmp_path) == before
    again = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert {row["method"]: row["results"] for row in again["methods"]} == {
        row["method"]: row["results"] for row in record["methods"]
    }
    assert "against maml" in (tmp_path / "compare.md").read_text(encoding="utf-8")


def test_what_a_kill_left_is_gone_on_with(photos, tmp_path):
    assert compare(photos, tmp_path, "protonet") == 0
    run = tmp_path / "protonet"
    whole, before = read_row(run), steps_on_disk(tmp_path)
    # killed between the training and the test
    torn = {key: value for key, value in whole.items() if key not in ("results", "seconds to adapt")}
    (run / KEPT).write_text(json.dumps(torn), encoding="utf-8")
    assert compare(photos, tmp_path, "protonet") == 0
    assert steps_on_disk(tmp_path) == before
    assert read_row(run)["results"] == whole["results"]
    # killed within the training: a larger budget finds the checkpoint of the smaller one
    (run / KEPT).unlink()
    assert compare(photos, tmp_path, "protonet", budget="14steps") == 0
    assert read_row(run)["outer steps"] == 14
    fresh = tmp_path / "fresh"
    assert compare(photos, fresh, "protonet", budget="14steps") == 0
    ours, theirs = (latest_checkpoint(each / "protonet" / "checkpoints") for each in (tmp_path, fresh))
    assert ours is not None and theirs is not None
    assert all(torch.equal(value, theirs.learner[name]) for name, value in ours.learner.items())


def test_a_method_that_fails_is_a_row_and_the_others_go_on(photos, tmp_path):
    wishes = Wishes(photos, ways=3)
    (relation, protonet), images = folder_contestants(["relation", "protonet"], wishes, tmp_path, count=4)
    # maps of 5x5 are too small for a relation module without padding
    broken = replace(relation, config=replace(relation.config, method=RelationNetMethod(padding=0)))
    tests = {"photos": protonet.config.data.source("test", images)}
    contest = Contest(tmp_path, "10steps", images, tests, torch.device("cpu"), quiet=True)
    failed, row = (take_part(each, contest) for each in (broken, protonet))
    assert failed["failed"] and "\n" not in failed["failed"] and "results" not in failed
    assert "failed" not in row and set(row["results"]) == {"photos"}


def test_a_damaged_row_is_told(tmp_path):
    (tmp_path / KEPT).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="remove it, and it is measured again"):
        read_row(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on", "omniglot-5w1s"], "name at least one method"),
        (["protonet", "--on", "omniglot-5w1s", "--budget", "soon"], "a budget is written as 90s, 20m"),
        (["protonet", "--on", "omniglot-5w1s", "--tasks", "1"], "at least 2 test tasks, got --tasks 1"),
        (["protonet", "--on", "omniglot-5w1s", "--ways", "3"], "--ways, --shots and --queries are for your own images"),
        (["protonet", "--on", "nowhere"], "there are no tasks 'nowhere'"),
    ],
)
def test_what_can_not_be_compared_is_refused_in_a_sentence(words, told, capsys):
    assert main(["compare", *words]) == 2
    assert told in capsys.readouterr().err
