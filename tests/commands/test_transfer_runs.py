"""The transfer baselines as runs: trained, exported, loaded, adapted to a user's drawings and asked."""

from dataclasses import replace

import pytest
import torch

from commands.short_runs import NAMES, draw, noisy_classes
from fastadapt import Protocol, Training, evaluate, load_predictor, load_run, meta_train
from fastadapt.commands import adapt, predict
from fastadapt.commands.adapt import AdaptSettings
from fastadapt.commands.predict import PredictSettings
from fastadapt.data.images.flat import flat_for_training
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError
from fastadapt.methods import FineTune, NearestNeighbour
from fastadapt.methods.settings import FineTuneMethod, MAMLMethod, NearestMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.runs.config import RunConfig, differences
from fastadapt.runs.run_files import export_model

DATA = OmniglotData(ways=3, shots=1, queries=2, rotation="none", flat_batch=16)
RUNS = {
    "finetune": RunConfig(
        DATA, Conv4Net(width=8, affine="both"), FineTuneMethod(route="loop", inner_lr=0.1, test_steps=8)
    ),
    "nearest": RunConfig(DATA, Conv4Net(width=8, affine="both"), NearestMethod(route="loop")),
    "pixels": RunConfig(DATA, MLPNet(hidden=()), NearestMethod()),
}


@pytest.fixture(params=RUNS)
def run(request, tmp_path):
    """Return the configuration and folder of a run that was trained for a moment."""
    torch.manual_seed(0)
    training = Training(steps=4, meta_batch=1, validate_every=4, checkpoint_every=2, log_every=2)
    config = replace(RUNS[request.param], training=training, validation_tasks=3, protocol=Protocol(tasks=4))
    images, folder = noisy_classes(), tmp_path / "run"
    meta_train(
        config.build(),
        flat_for_training(images, "train", config.data.flat_batch),
        config.training,
        validation=images,
        protocol=config.validation,
        folder=folder,
        quiet=True,
    )
    export_model(folder, config)
    return config, folder


def test_a_run_is_loaded_with_its_averages_and_evaluated(run):
    config, folder = run
    loaded = load_run(folder)
    assert loaded.config == config and loaded.step == 4
    learner = loaded.learner
    assert isinstance(learner, FineTune | NearestNeighbour)
    assert learner.classifier.out_features == config.data.classes == 1100
    if learner.layered:
        assert int(learner.running.updates[0]) == 4  # flat batches alone, and not the validation
        assert learner.running.tensors()["blocks.0.1.running_mean"].abs().max() > 0
    result = evaluate(learner, noisy_classes(), config.protocol)
    assert len(result.mean) == learner.test_steps + 1 and not result.transductive
    assert result.metric == "accuracy" and result.nonfinite[-1] == 0
    if isinstance(learner, NearestNeighbour):
        assert result.result > (0.5 if learner.layered else 0.9)  # noisy copies of a pattern are near each other


def test_drawings_are_answered_one_by_one(run, tmp_path, capsys):
    _, folder = run
    for name in NAMES:
        draw(tmp_path / "drawings" / name / "1.png", name)
        draw(tmp_path / "drawings" / name / "2.png", name, shift=4)
    out = tmp_path / "adapted"
    assert adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=out)) == 0
    said = capsys.readouterr().out
    steps = load_run(folder).learner.test_steps
    assert f"3 classes (bars, cross, ring) from 2 images each in {steps} steps" in said
    files = [tmp_path / "drawings" / name / "2.png" for name in NAMES]
    assert predict.run(PredictSettings(predictor=out, files=tuple(files))) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [str(path) for path in files]
    predictor = load_predictor(out)
    assert predictor.labels == list(NAMES)
    if steps == 0:  # nothing is as similar to a drawing as itself
        assert [row[1] for row in rows] == list(NAMES)


def test_a_configuration_survives_json():
    for config in RUNS.values():
        assert RunConfig.from_json(config.to_json()) == config
    other = replace(RUNS["nearest"], data=replace(DATA, flat_batch=32))
    assert differences(RUNS["nearest"], other) == ["data.flat_batch: 16 -> 32"]


@pytest.mark.parametrize("method", [FineTuneMethod(), NearestMethod()])
def test_a_classifier_needs_flat_batches_of_classes(method):
    with pytest.raises(ConfigError, match=r"data.flat_batch is 0: set the images of a batch"):
        RunConfig(replace(DATA, flat_batch=0), Conv4Net(), method)
    with pytest.raises(ConfigError, match=r"data.flat_batch is 0"):
        RunConfig(SinusoidData(), MLPNet(), method)


def test_a_method_that_learns_from_tasks_gets_no_flat_batches():
    with pytest.raises(ConfigError, match=r"MAMLMethod trains on tasks, and data.flat_batch is 16"):
        RunConfig(DATA, Conv4Net(), MAMLMethod())
