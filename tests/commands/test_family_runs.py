"""MAML's relatives as runs: trained, exported, adapted, asked, served, tested as ensembles and by NIL."""

import json
from dataclasses import replace

import pytest
import torch

from commands.short_runs import draw, noisy_classes, trained
from drawn_folder import make_folder
from fastadapt import Protocol, Training, evaluate, load_predictor, load_run
from fastadapt.cli import main
from fastadapt.commands import adapt, predict
from fastadapt.commands.adapt import AdaptSettings
from fastadapt.commands.evaluate import EvaluateSettings, custom
from fastadapt.commands.predict import PredictSettings
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.methods.family_settings import IMAMLMethod, MAMLPlusPlusMethod, MetaSGDMethod, ProtoMAMLMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.run_files import load_ensemble
from fastadapt.serve.adaptation import steps_of
from fastadapt.serve.served import ServedModel
from fastadapt.training.checkpoint import best_checkpoints
from fastadapt.training.saved_steps import saved_steps

DATA = OmniglotData(ways=3, shots=1, queries=2, rotation="none", fewest_ways=2)
SMALL = Conv4Net(width=4, affine="both")
RUNS = {
    "metasgd": RunConfig(DATA, SMALL, MetaSGDMethod()),
    "mamlpp": RunConfig(DATA, SMALL, MAMLPlusPlusMethod(steps=2, test_steps=2, multi_step_epochs=2, epoch=2)),
    "imaml": RunConfig(DATA, SMALL, IMAMLMethod(steps=2, test_steps=2, cg_steps=2)),
    "protomaml": RunConfig(DATA, SMALL, ProtoMAMLMethod(steps=1, test_steps=2, inner_lr=0.1)),
}
NAMES = ("bars", "cross")


@pytest.fixture(params=RUNS, scope="module")
def run(request, tmp_path_factory):
    """Return the configuration and folder of a run that was trained for a moment."""
    config, folder = trained(
        RUNS[request.param], tmp_path_factory.mktemp("family") / "run", validate_every=1, keep=1, keep_best=3
    )
    (folder / "config.json").write_text(config.to_json())
    return config, folder


@pytest.mark.long
def test_a_run_is_used_as_one_of_maml_is(run, tmp_path, capsys):
    config, folder = run
    loaded = load_run(folder)
    assert loaded.config == config
    result = evaluate(loaded.learner, noisy_classes(), config.protocol)
    assert len(result.mean) == config.method.test_steps + 1 and result.metric == "accuracy"
    for name in NAMES:  # two classes, where the tasks of the training had three
        for i in range(2):
            draw(tmp_path / "drawings" / name / f"{i}.png", name, shift=4 * i)
    out = tmp_path / "adapted"
    assert adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=out)) == 0
    assert f"2 classes (bars, cross) from 2 images each in {config.method.test_steps} step" in capsys.readouterr().out
    files = tuple(tmp_path / "drawings" / name / "1.png" for name in NAMES)
    assert predict.run(PredictSettings(predictor=out, files=files)) == 0
    assert load_predictor(out)(torch.rand(1, 1, 28, 28)).shape == (1, 2)


@pytest.mark.long
def test_it_is_served_step_by_step(run):
    config, folder = run
    model = ServedModel(load_run(folder))
    assert model.methods[0].name == type(config.method).__name__.removesuffix("Method").lower()
    assert "the method by which the model was trained" not in model.methods[0].about
    for method in model.methods:
        support = torch.rand(4, 1, 28, 28), torch.arange(4) % 2
        *_, last = steps_of(model, method.name, support, 2, None, torch.rand(3, 1, 28, 28), lambda: None)
        torch.testing.assert_close(last.answers.sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.long
def test_the_best_checkpoints_answer_together_under_a_protocol_of_their_own(run):
    _, folder = run
    several = load_ensemble(folder, 3)
    best = best_checkpoints(folder / "checkpoints", 3)
    scores = [checkpoint.state["score"] for checkpoint in best]
    assert scores == sorted(scores, reverse=True) and len(saved_steps(folder / "checkpoints")) in (3, 4)
    assert several.name.startswith("run, the mean of its 3 best checkpoints (steps ")
    for member, checkpoint in zip(several.learner.members, best, strict=True):
        own = member.state_dict()
        assert all(torch.equal(own[name], value) for name, value in checkpoint.learner.items())
    result = evaluate(several.learner, noisy_classes(), Protocol(tasks=4))
    assert 0 <= result.result <= 1
    with pytest.raises(CheckpointError, match="checkpoints that were validated, and 9 are asked for"):
        load_ensemble(folder, 9)
    with pytest.raises(ConfigError, match="at least 2 members"):
        load_ensemble(folder, 1)


def test_other_ways_to_test_never_bear_the_name_of_the_protocol(tmp_path):
    protocol = Protocol("omniglot-5w1s-v1")
    settings = EvaluateSettings(tmp_path)
    assert custom(protocol, settings).name == "omniglot-5w1s-v1"
    assert custom(protocol, replace(settings, nil=True)).name == "omniglot-5w1s-v1, NIL"
    several = custom(protocol, replace(settings, ensemble=5, tasks=100)).name
    assert several == "custom (omniglot-5w1s-v1, ensemble of 5 checkpoints with tasks changed)"


@pytest.mark.long
def test_the_command_measures_an_ensemble_and_nil_on_waves_and_says_so(tmp_path, capsys):
    words = ["train", "metasgd-sinusoid", "--run", str(tmp_path / "run"), "--quiet", "--training.steps", "4"]
    words += ["--training.validate-every", "2", "--training.checkpoint-every", "2", "--validation-tasks", "3"]
    words += ["--protocol.tasks", "4", "--training.keep-best", "2"]
    assert main(words) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--ensemble", "2"]) == 0
    said = capsys.readouterr().out
    assert "the mean of its 2 best checkpoints (steps 2, 4)" in said and "ensemble of 2 checkpoints" in said
    assert main(["evaluate", str(tmp_path / "run"), "--nil"]) == 2  # waves have no classes
    assert "NIL tells classes apart" in capsys.readouterr().err


def test_a_configuration_survives_json():
    for config in RUNS.values():
        assert RunConfig.from_json(config.to_json()) == config
        assert "keep_best" not in config.to_json()
    with pytest.raises(ConfigError, match="ProtoMAMLMethod tells classes apart, and SinusoidData has numbers"):
        RunConfig(SinusoidData(), MLPNet(), ProtoMAMLMethod())
    with pytest.raises(ConfigError, match=r"method\.inner_lr_to=0\.1 must be at least"):
        RunConfig(SinusoidData(), MLPNet(), MetaSGDMethod(inner_lr=0.2)).build()
    with pytest.raises(ConfigError, match=r"training\.keep_best must be at least 1"):
        Training(keep_best=0)


def test_the_presets_have_the_published_settings():
    boil = PRESETS["boil-mini-imagenet-5w5s"][1]
    assert isinstance(boil.method, MAMLMethod)
    assert (boil.method.inner_lr, boil.method.adapt, boil.method.steps) == (0.5, ("body",), 1)
    assert (boil.training.meta_batch, boil.training.steps, boil.data.train_queries) == (4, 30_000, 15)
    plus = PRESETS["mamlpp-omniglot-20w1s"][1]
    assert isinstance(plus.method, MAMLPlusPlusMethod)
    assert (plus.training.meta_batch, plus.training.steps, plus.method.epoch) == (8, 50_000, 500)
    assert (plus.method.steps, plus.method.test_steps, plus.method.multi_step_epochs) == (5, 5, 10)
    assert (plus.training.rate(0), round(plus.training.rate(50_000), 9)) == (1e-3, 1e-5)
    mini = PRESETS["mamlpp-mini-imagenet-5w5s"][1]
    assert (mini.training.meta_batch, mini.net.width, mini.method.multi_step_epochs) == (2, 48, 15)
    assert PRESETS["metasgd-omniglot-5w1s"][1].method.steps == 1
    assert PRESETS["foprotomaml-mini-imagenet-5w1s"][1].method.meta_gradient == "first_order"


@pytest.mark.long
@pytest.mark.parametrize(
    "method", ["metasgd", "protomaml", *(pytest.param(m, marks=pytest.mark.slow) for m in ("anil", "boil", "mamlpp"))]
)
def test_own_images_train_by_any_of_them(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", classes=9, images=6)
    words = ["--training.steps", "2", "--training.validate-every", "2", "--protocol.tasks", "3"]
    small = ["--net.width", "4", "--training.checkpoint-every", "2", "--quiet", "--validation-tasks", "2"]
    done = main(["train", "--data", "photos", "--method", method, "--ways", "2", "--shots", "1", *words, *small])
    run = tmp_path / "runs" / f"{method}-photos-2w1s"
    assert done == 0 and f"runs/{method}-photos-2w1s" in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["protocol"]["name"].startswith("custom (folder-2w1s-")
    assert main(["evaluate", str(run), "--nil", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["name"].endswith("NIL")
