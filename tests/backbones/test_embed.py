"""Features of a folder are written once: what an unbroken run writes, whatever it was killed by."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from backbones.onnx_files import write
from drawn_folder import make_folder
from fastadapt.backbones import embed as module
from fastadapt.backbones.backbone import find_backbone
from fastadapt.backbones.embed import Told, embed
from fastadapt.commands.backbone_options import look_at_pictures
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.errors import CheckpointError, ConfigError, DataError


@pytest.fixture
def some(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 64)
    make_folder(tmp_path / "photos", classes=4, images=40, side=16, mode="RGB")
    return look_at_pictures(tmp_path / "photos"), find_backbone(str(write(tmp_path / "net.onnx")), values="unit")


class Stop(BaseException):
    pass


def stopping(at):
    def progress(done, of):
        if done >= at:
            raise Stop

    return progress


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_a_row_for_each_picture_with_its_class_and_name(some, ending, tmp_path):
    pictures, backbone = some
    made = embed(pictures, backbone, tmp_path / f"f{ending}")
    again = read_embeddings(tmp_path / f"f{ending}")
    assert torch.equal(again.features, made.features) and again.features.shape == (160, 5)
    assert again.names[:2] == ("class0/0.png", "class0/1.png") and again.backbone == backbone.name
    for number in (0, 63, 64, 159):  # alone as in a batch
        x = backbone.sight.values(torch.from_numpy(backbone.sight.read(pictures.paths[number]))[None])
        torch.testing.assert_close(backbone.net(x)[0], made.features[number])
        assert again.class_names[again.labels[number]] == pictures.classes[number]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"f{ending}", "net.onnx", "photos"]


@pytest.mark.parametrize("at", [64, 128])
@pytest.mark.parametrize("torn", [0, 1, 300])
def test_what_was_stopped_goes_on_to_the_same_bytes(some, at, torn, tmp_path):
    pictures, backbone = some
    embed(pictures, backbone, tmp_path / "whole.safetensors")
    with pytest.raises(Stop):
        embed(pictures, backbone, tmp_path / "f.safetensors", stopping(at))
    assert not (tmp_path / "f.safetensors").exists()
    with (tmp_path / ".f.safetensors.partial" / "rows").open("ab") as file:
        file.write(b"\x01" * torn)  # the beginning of a batch that was never finished
    seen = []
    embed(pictures, backbone, tmp_path / "f.safetensors", lambda done, of: seen.append(done))
    assert seen[0] == at  # nothing was computed twice
    assert (tmp_path / "f.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_what_is_of_another_backbone_or_other_pictures_is_begun_anew(some, tmp_path):
    pictures, backbone = some
    other = find_backbone(str(write(tmp_path / "other.onnx", seed=1)), values="unit")
    with pytest.raises(Stop):
        embed(pictures, other, tmp_path / "f.npz", stopping(64))
    seen = []
    made = embed(pictures, backbone, tmp_path / "f.npz", lambda done, of: seen.append(done))
    assert seen[0] == 0
    assert torch.equal(made.features, embed(pictures, backbone, tmp_path / "g.npz").features)
    with pytest.raises(Stop):
        embed(pictures, backbone, tmp_path / "h.npz", stopping(64))
    seen.clear()
    embed(pictures.only(range(100)), backbone, tmp_path / "h.npz", lambda done, of: seen.append(done))
    assert seen[0] == 0


def test_what_can_not_be_written_or_computed_is_told(some, tmp_path):
    pictures, backbone = some
    with pytest.raises(ConfigError, match=r"written as .safetensors or .npz, and --out is .*f.csv"):
        embed(pictures, backbone, tmp_path / "f.csv")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        embed(pictures, backbone, tmp_path / "folder.npz")
    with pytest.raises(CheckpointError, match="could not write"):
        embed(pictures, backbone, tmp_path / "net.onnx" / "f.npz")
    infinite = module.Backbone(torch.nn.Threshold(-1.0, 0.0), backbone.sight, "t")
    broken = module.Backbone(torch.nn.Sequential(Log(), torch.nn.Flatten()), backbone.sight, "b")
    embed(pictures.only(range(3)), infinite, tmp_path / "fine.npz")
    with pytest.raises(DataError, match=r"class0/0.png are not finite; leave it out"):
        embed(pictures.only(range(3)), broken, tmp_path / "f.npz")


class Log(torch.nn.Module):
    def forward(self, x):
        return (x - 0.5).log()


def test_a_folder_in_which_something_is_wrong_is_refused_or_left_out(tmp_path):
    make_folder(tmp_path / "photos", classes=2, images=3)
    (tmp_path / "photos" / "class0" / "bad.png").write_bytes(b"text")
    with pytest.raises(DataError, match="--bad skip"):
        look_at_pictures(tmp_path / "photos")
    assert len(look_at_pictures(tmp_path / "photos", bad="skip").paths) == 6


def test_progress_is_told_now_and_then_and_at_the_end(caplog):
    told = Told(every=0.0)
    with caplog.at_level("INFO"):
        for done in (0, 64, 128, 160):
            told(done, 160)
    lines = [record.getMessage() for record in caplog.records]
    assert (
        lines[0] == "embedded 0 of 160 pictures"
        and "s left" in lines[1]
        and lines[-1] == "embedded 160 of 160 pictures"
    )


SLOW = """
import time, torch
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.004 * len(x))
        return x.mean((2, 3))
"""


@pytest.mark.long
def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path):
    make_folder(tmp_path / "photos", classes=5, images=40, side=16, mode="RGB")
    (tmp_path / "slow_net.py").write_text(SLOW)
    words = ["embed", "photos", "--backbone", "slow_net:Slow", "--values", "unit", "--size", "16"]
    command = [sys.executable, "-m", "fastadapt.cli", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path, "env": env}
    subprocess.run([*command, "--out", "whole.safetensors"], check=True, **quiet)
    command += ["--out", "f.safetensors"]
    killed = subprocess.Popen(command, **quiet)
    rows = tmp_path / ".f.safetensors.partial" / "rows"
    until = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size >= 2 * 64 * 3 * 4) and time.monotonic() < until:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "f.safetensors").exists()
    last = subprocess.run(command, check=True, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "going on behind the first" in last.stderr
    assert (tmp_path / "f.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
