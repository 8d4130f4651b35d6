"""`fastadapt train --processes N`: a process that is killed costs nothing, and an error of its own ends all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastadapt.errors import ConfigError
from fastadapt.training.launch import launch

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
SHORT = ["--training.meta-batch", "4", "--training.checkpoint-every", "10", "--training.validate-every", "0"]
SHORT += ["--protocol.tasks", "10", "--threads", "1", "--quiet"]


def command(*words):
    return [sys.executable, "-m", "fastadapt", "train", "maml-sinusoid", "--processes", "2", *SHORT, *words]


def weights(folder):
    return (folder / "model" / "learner.safetensors").read_bytes()


def children_of(pid):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found by /proc")
def test_a_run_of_two_processes_that_is_killed_three_times_ends_with_the_same_weights(tmp_path):
    length = ["--training.steps", "400"]
    subprocess.run(command("--run", str(tmp_path / "whole"), *length), check=True)
    running = subprocess.Popen(command("--run", str(tmp_path / "killed"), *length))
    for kill in range(3):
        end = time.monotonic() + 200
        while not list((tmp_path / "killed").glob(f"checkpoints/step-*{100 * kill + 50}")):
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        os.kill(children_of(running.pid)[kill % 2], signal.SIGKILL)
    assert running.wait(timeout=250) == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.long
def test_a_mistake_is_told_once_and_ends_all(tmp_path):
    done = subprocess.run(
        command("--run", str(tmp_path / "run"), "--training.steps", "3", "--training.meta-batch", "1"),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 2
    assert "training.meta_batch is 1 and there are 2 processes" in done.stderr
    assert "Traceback" not in done.stderr


def test_there_is_at_least_one_process():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        launch(0, ["train"])


def test_torchrun_leaves_our_options_alone_behind_two_dashes():
    from torch.distributed.run import parse_args

    words = ["train", "maml-sinusoid", "--run", "here", "--threads", "1"]
    asked = parse_args(["--nproc-per-node", "2", "-m", "--", "fastadapt", *words])
    assert (asked.module, asked.training_script, asked.training_script_args) == (True, "fastadapt", words)
