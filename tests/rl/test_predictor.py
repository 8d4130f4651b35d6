"""A policy on disk is read by whoever has the folder alone."""

import subprocess
import sys

import pytest
import torch

from fastadapt.nets.settings import build_net
from fastadapt.predictor import Predictor
from fastadapt.rl import settings  # noqa: F401 - makes policies known by name
from fastadapt.runs.predictor_file import save_predictor

NET = {"name": "GaussianPolicy", "arguments": {"observations": 2, "actions": 2, "hidden": [4]}}


@pytest.mark.long
def test_a_process_that_has_not_heard_of_policies_loads_one(tmp_path):
    predictor = Predictor(build_net(NET), "transductive", details={"net": NET})
    save_predictor(predictor, tmp_path / "policy")
    program = (
        "import sys, fastadapt, torch; p = fastadapt.load_predictor(sys.argv[1]); "
        "print(p.model(torch.zeros(1, 2)).mean.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "policy")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(predictor.model(torch.zeros(1, 2)).mean.tolist())
