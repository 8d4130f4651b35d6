"""Nearest neighbour on the real Omniglot: features of a classifier against pixels, through the command line."""

import json
import os
from pathlib import Path

import pytest

from fastadapt import MLP, evaluate
from fastadapt.cli import main
from fastadapt.methods import NearestNeighbour
from fastadapt.runs.presets import PRESETS

STEPS = 1500
SMALL = [
    "--net.down",
    "stride",
    "--net.pooled",
    "mean",
    "--training.steps",
    str(STEPS),
    "--training.validate-every",
    "0",
]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_features_of_a_classifier_are_clearly_better_than_pixels(tmp_path: Path) -> None:
    if not os.environ.get("FASTADAPT_DATA"):
        pytest.skip("needs the real Omniglot: set FASTADAPT_DATA to the folder that has it")
    assert main(["train", "nearest-omniglot-5w1s", *SMALL, "--quiet", "--run", str(tmp_path)]) == 0
    features = json.loads((tmp_path / "evaluation.json").read_text())
    assert features["nonfinite"] == [0] and not features["transductive"]

    run = PRESETS["nearest-omniglot-5w1s"][1]
    tasks = run.data.source("test", run.data.load())
    pixels = evaluate(NearestNeighbour(MLP(28 * 28, (), 5)), tasks, run.protocol)
    print(f"\nfeatures {features['mean'][0]:.4f} ± {features['ci95'][0]:.4f}; pixels {pixels}")
    assert features["mean"][0] - features["ci95"][0] > pixels.result + pixels.ci95[0] + 0.15
