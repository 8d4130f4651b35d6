"""Heads on a frozen backbone in a comparison: what the backbone sees, and the same tasks as every method has."""

import json

import pytest
import torch

from drawn_folder import make_folder
from fastadapt import Protocol, draw, evaluate
from fastadapt.backbones.backbone import find_backbone
from fastadapt.backbones.shown import Shown
from fastadapt.cli import main
from fastadapt.compare.contest import Contest
from fastadapt.compare.contestants import folder_contestants
from fastadapt.compare.heads import HeadEntry, take_part_with_head
from fastadapt.methods import NearestCentroid
from fastadapt.runs.folder_run import Wishes


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("own") / "photos", classes=12, images=4, side=30)


def test_a_backbone_sees_the_pixels_of_the_tasks_again():
    pixels = torch.randint(0, 256, (3, 1, 28, 28))
    ink, backbone = 1 - pixels / 255, find_backbone("pixels")
    seen = Shown(backbone, {"kind": "image", "invert": True}).pixels(ink)
    assert torch.equal(seen, pixels.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).to(torch.uint8))
    colours = torch.randint(0, 256, (2, 3, 28, 28))
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    normal = (colours / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    assert torch.equal(
        Shown(backbone, {"kind": "image", "normalise": "imagenet"}).pixels(normal), colours.permute(0, 2, 3, 1).byte()
    )
    assert Shown(find_backbone("pixels", size=32), {"kind": "image"})(torch.rand(2, 1, 14, 14)).shape == (
        2,
        3 * 32 * 32,
    )


def test_heads_have_the_tasks_of_the_others_and_are_measured_once(photos, tmp_path):
    [protonet], images = folder_contestants(["protonet"], Wishes(photos, ways=3), tmp_path, count=5)
    data, backbone = protonet.config.data, find_backbone("pixels")
    tests = {"photos": data.source("test", images)}
    contest = Contest(tmp_path, "10steps", images, tests, torch.device("cpu"), quiet=True)
    protocol = Protocol("compare-photos-v1", tasks=5, steps=0)
    row = take_part_with_head(HeadEntry("head-l2n", backbone, data, protocol), contest)
    assert "failed" not in row and row["outer steps"] == 0 and row["predictor bytes"] < 3 * 4 * 4 * 28 * 28 * 3
    own = NearestCentroid(Shown(backbone, data.input), unit=True)
    wanted = evaluate(own, tests["photos"], protocol)
    assert row["results"]["photos"]["mean"] == pytest.approx(wanted.result)
    assert row["results"]["photos"]["per task"] == pytest.approx([task[0] for task in wanted.per_task], abs=1e-6)
    again = take_part_with_head(HeadEntry("head-l2n", backbone, data, protocol), contest)
    assert again["seconds to adapt"] == row["seconds to adapt"]  # kept, not measured again
    first = draw(data.source("train", images), seed=0, split="train", indices=[0])[0]
    assert first.support[0].shape[1:] == (data.input["channels"], data.size, data.size)


@pytest.mark.long
def test_the_command_compares_heads_with_a_method(photos, tmp_path, capsys):
    words = ["compare", "protonet", "head-cl2n", "head-ridge", "--on", str(photos), "--ways", "3", "--tasks", "5"]
    words += ["--folder", str(tmp_path), "--quiet", "--budget", "10steps", "--backbone", "pixels"]
    assert main(words) == 0
    assert "head-cl2n" in capsys.readouterr().out
    record = json.loads((tmp_path / "compare.json").read_text())
    assert [row["method"] for row in record["methods"]] == ["protonet", "head-cl2n", "head-ridge"]
    assert [row["outer steps"] for row in record["methods"]] == [10, 0, 50]
    assert record["methods"][1]["network"] == "the pixels of 28x28"
    told = (tmp_path / "compare.md").read_text()
    assert "head-ridge" in told and "the features of the pixels of 28x28, which others have trained" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["head-cl2n"], "head-cl2n is fitted to what others have trained; name it with --backbone"),
        (["protonet", "--backbone", "pixels"], "--backbone pixels is for heads on its features; name one, such as"),
        (["head-best", "--backbone", "pixels"], "there is no head 'head-best'; there are head-centroid, head-l2n"),
        (["head-cl2n", "--backbone", "nothing"], "there is no backbone 'nothing'"),
    ],
)
def test_heads_and_backbones_that_do_not_go_together_are_refused(words, told, photos, capsys):
    assert main(["compare", *words, "--on", str(photos)]) == 2
    assert told in capsys.readouterr().err
