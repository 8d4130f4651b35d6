"""The command line as its user meets it: a run, a resume, an evaluation, and sentences for mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastadapt.cli import main

SMALL = [
    "--training.steps", "30", "--training.meta-batch", "4", "--training.validate-every", "10",
    "--training.checkpoint-every", "5", "--training.log-every", "10", "--protocol.tasks", "12",
    "--protocol.steps", "2", "--validation-tasks", "5",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_leaves_everything_that_is_promised(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "maml-sinusoid", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "mse" in out and "95 % CI, 12 tasks" in out
    assert "step 10/30" in err and "tasks/s" in err and "left" in err
    run = here / "runs" / "maml-sinusoid"
    for name in ("config.json", "metrics.jsonl", "evaluation.json", "model/learner.safetensors", "report/curves.png"):
        assert (run / name).stat().st_size > 0
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 30

    assert main(["evaluate", "runs/maml-sinusoid"]) == 0
    again = capsys.readouterr().out
    trained = json.loads((run / "evaluation.json").read_text())
    assert f"mse {trained['mean'][2]:.4f}" in again  # the exported model is the one that was measured

    assert main(["evaluate", "runs/maml-sinusoid", "--tasks", "5", "--json"]) == 0
    custom = json.loads(capsys.readouterr().out)
    assert custom["protocol"]["name"].startswith("custom") and len(custom["mean"]) == 3
    assert main(["evaluate", "runs/maml-sinusoid", "--tasks", "5", "--json", "--after", "0"]) == 0
    some = json.loads(capsys.readouterr().out)
    assert some["after"] == [0, 2] and some["mean"] == pytest.approx([custom["mean"][0], custom["mean"][2]])

    assert main(["list"]) == 0
    assert "runs/maml-sinusoid" in capsys.readouterr().out


@pytest.mark.long
def test_a_finished_run_is_not_trained_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "pretrain-sinusoid", *SMALL])
    weights = (here / "runs/pretrain-sinusoid/model/learner.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["train", "pretrain-sinusoid", *SMALL]) == 0
    assert "going on from step 30" in capsys.readouterr().err
    assert (here / "runs/pretrain-sinusoid/model/learner.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "maml-omniglot"], "there is no preset 'maml-omniglot'; near are"),
        (["evaluate", "nowhere"], "can't load nowhere"),
        (["report", "nowhere"], "can't load nowhere"),
        (["train", "maml-omniglot-5w1s", "--data", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    here: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and says in err and "Traceback" not in err
    assert not (here / "runs").exists()


def test_a_setting_outside_its_range_is_refused_by_the_parser(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "maml-sinusoid", "--training.steps", "0"]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "training.steps must be at least 1, got 0" in err and "Traceback" not in err
    assert not (here / "runs").exists()


@pytest.mark.long
def test_a_run_with_other_settings_is_never_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "maml-sinusoid", *SMALL])
    before = (here / "runs/maml-sinusoid/config.json").read_text()
    capsys.readouterr()
    assert main(["train", "maml-sinusoid", *SMALL, "--training.lr", "0.5"]) == 2
    assert "training.lr: 0.001 -> 0.5" in capsys.readouterr().err
    assert (here / "runs/maml-sinusoid/config.json").read_text() == before


def test_a_foreign_folder_is_not_written_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.png").write_bytes(b"")
    assert main(["train", "maml-sinusoid", *SMALL, "--run", "photos"]) == 2
    assert "not empty and not a run" in capsys.readouterr().err
    assert [p.name for p in (here / "photos").iterdir()] == ["cat.png"]


@pytest.mark.long
def test_ctrl_c_checkpoints_and_the_same_command_goes_on(here: Path) -> None:
    words = [sys.executable, "-m", "fastadapt.cli", "train", "maml-sinusoid", "--method.compile", "off"]
    words += ["--training.log-every", "20"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = here / "runs/maml-sinusoid/metrics.jsonl"
    with process:
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in out
    assert (here / "runs/maml-sinusoid/model/model.json").is_file()


def test_doctor_finds_nothing_wrong_with_the_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "gradients equal their closed forms" in out
    assert "through torch's attention equals that of attention written out" in out
    assert "variances near 1/2: 0." in out


def test_doctor_goes_on_where_the_data_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data", "nowhere"]) == 0
    out = capsys.readouterr().out
    assert "ok   gradients" in out and "note omniglot: the data folder nowhere does not exist" in out
    assert "note mini-imagenet: the data folder nowhere does not exist" in out


def test_doctor_says_which_parts_of_mini_imagenet_are_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "val"):
        (here / f"{part}.zip").write_bytes(b"")
    assert main(["doctor", "--data", "."]) == 0
    assert "note mini-imagenet: test not found; looked for test/ or test.zip" in capsys.readouterr().out
    (here / "mini-imagenet-cache-test.pkl").write_bytes(b"")
    assert main(["doctor", "--data", "."]) == 0
    out = capsys.readouterr().out
    assert "ok   mini-imagenet: train in train.zip, val in val.zip, test in mini-imagenet-cache-test.pkl" in out


def test_help_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("train", "evaluate", "adapt", "predict", "list", "doctor"):
        assert f"  {command} " in out
    assert main([]) == 2


@pytest.mark.long
def test_a_protocol_keeps_its_name_only_while_its_rules_are_kept(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "maml-sinusoid", *SMALL, "--data.shots", "5"]) == 0
    protocol = json.loads((here / "runs/maml-sinusoid/evaluation.json").read_text())["protocol"]
    assert protocol["name"] == "custom (sinusoid-k10-v1 with protocol.tasks, protocol.steps, data.shots changed)"


@pytest.mark.long
def test_a_refused_setting_does_not_stand_in_the_way_of_the_right_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "maml-sinusoid", *SMALL, "--method.adapt", "nosuch"]) == 2
    assert not (here / "runs").exists()
    assert main(["train", "maml-sinusoid", *SMALL, "--data.queries", "0"]) == 2
    assert main(["train", "maml-sinusoid", *SMALL]) == 0


@pytest.mark.long
def test_a_run_whose_result_is_not_finite_is_listed_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "maml-sinusoid", *SMALL, "--method.inner-lr", "1e30", "--training.max-nonfinite", "99"]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "damaged" not in out and ("nan" in out or "inf" in out)
