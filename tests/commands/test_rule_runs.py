"""Learned rules and CAVIA as runs: trained, exported, loaded, evaluated, adapted, asked, served, and resumed."""

from dataclasses import replace

import pytest
import torch

from commands.test_transfer_runs import draw, noisy_classes
from drawn_folder import make_folder
from fastadapt import Protocol, Training, evaluate, load_predictor, load_run, meta_train
from fastadapt.cli import main
from fastadapt.commands import adapt, predict
from fastadapt.commands.adapt import AdaptSettings
from fastadapt.commands.predict import PredictSettings
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.methods.rule_settings import CAVIAMethod, MetaCurvatureMethod, MetaLSTMMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.rules.curvature import MetaCurvature
from fastadapt.rules.meta_lstm import MetaLSTM
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.run_files import LoadedRun, export_model
from fastadapt.serve.adaptation import steps_of
from fastadapt.serve.served import ServedModel

DATA = OmniglotData(ways=3, shots=1, queries=2, rotation="none")
SMALL = Conv4Net(width=3, affine="both")
EAGER = {"route": "vmap", "compile": "off"}
RUNS = {
    "meta-lstm": RunConfig(DATA, SMALL, MetaLSTMMethod(hidden=3, steps=2, test_steps=2, **EAGER)),
    "meta-curvature": RunConfig(DATA, SMALL, MetaCurvatureMethod(inner_lr=0.1, learn_rates=True, **EAGER)),
    "cavia": RunConfig(DATA, replace(SMALL, film=4), CAVIAMethod(steps=2, test_steps=2, **EAGER)),
}
NAMES = ("bars", "cross", "ring")


@pytest.fixture(params=RUNS, scope="module")
def run(request, tmp_path_factory):
    """Return the configuration and folder of a run that was trained for a moment."""
    torch.manual_seed(0)
    training = Training(steps=4, meta_batch=2, validate_every=4, checkpoint_every=2, log_every=2)
    config = replace(RUNS[request.param], training=training, validation_tasks=3, protocol=Protocol(tasks=4))
    images, folder = noisy_classes(), tmp_path_factory.mktemp("rules") / "run"
    settings = {"validation": images, "protocol": config.validation, "folder": folder, "quiet": True}
    meta_train(config.build(), images, config.training, **settings)
    export_model(folder, config)
    return config, folder


@pytest.mark.long
def test_a_run_is_used_as_one_of_maml_is(run, tmp_path, capsys):
    config, folder = run
    loaded = load_run(folder)
    assert loaded.config == config and loaded.step == 4
    assert 0 <= evaluate(loaded.learner, noisy_classes(), config.protocol).result <= 1
    for name in NAMES:
        for i in range(2):
            draw(tmp_path / "drawings" / name / f"{i}.png", name, shift=4 * i)
    out = tmp_path / "adapted"
    assert adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=out)) == 0
    files = tuple(tmp_path / "drawings" / name / "1.png" for name in NAMES)
    capsys.readouterr()
    assert predict.run(PredictSettings(predictor=out, files=files)) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [str(path) for path in files]
    predictor = load_predictor(out)
    names = [name for name, _ in (*predictor.model.named_parameters(), *predictor.model.named_buffers())]
    assert not any("rates" in name or "gates" in name for name in names)  # what is adapted needs no rule
    model = ServedModel(loaded)
    support = torch.rand(6, 1, 28, 28), torch.arange(6) % 3
    [*_, step] = steps_of(model, model.own_method, support, 2, None, torch.rand(3, 1, 28, 28), lambda: None)
    torch.testing.assert_close(step.answers.sum(1), torch.ones(3, dtype=torch.float64))


@pytest.mark.long
def test_training_goes_on_bit_for_bit(run, tmp_path):
    config, _ = run
    images, weights = noisy_classes(), []
    for folder, stops in ((tmp_path / "whole", [6]), (tmp_path / "parts", [3, 6])):
        for steps in stops:
            torch.manual_seed(5)
            learner = config.build()
            settings = replace(config.training, steps=steps, validate_every=0, checkpoint_every=3)
            meta_train(learner, images, settings, folder=folder, quiet=True)
        weights.append(learner.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    start = config.build().state_dict()
    learned = [name for name in start if not torch.equal(start[name], weights[0][name])]
    rule = config.method.build(config.build().model, config.data.loss).rule
    assert any(name.startswith("rule_parts.") for name in learned) == isinstance(rule, MetaLSTM)
    assert any(name.startswith("rates.") for name in learned) == isinstance(rule, MetaCurvature)


def test_fewer_classes_take_the_corner_of_a_heads_matrix():
    torch.manual_seed(0)
    config = RunConfig(OmniglotData(ways=6, fewest_ways=3), SMALL, MetaCurvatureMethod())
    wide = LoadedRun(config.build(), config, "wide", 7)
    with torch.no_grad():
        for p in wide.learner.rates:
            p.normal_()
    narrow = wide.narrowed(4)
    full, cut = (dict(each.learner.rule.matrices) for each in (wide, narrow))
    assert torch.equal(cut["head.weight"][0], full["head.weight"][0][:4, :4])
    assert torch.equal(cut["head.weight"][1], full["head.weight"][1])
    assert torch.equal(cut["head.bias"][0], full["head.bias"][0][:4])
    assert torch.equal(cut["blocks.0.0.weight"][2], full["blocks.0.0.weight"][2])


def test_settings_build_what_they_say():
    torch.manual_seed(0)
    learner = RunConfig(method=MetaLSTMMethod(inner_lr=0.2, hidden=5, feedback="gates")).build()
    assert (learner.rule.lr, learner.rule.gates.hidden, learner.rule.gates.feedback) == (0.2, 5, "gates")
    assert learner.meta_gradient == "first_order"
    learner = RunConfig(method=MetaCurvatureMethod(inner_rule="momentum", inner_clip=2.0, adapt=("head",))).build()
    assert repr(learner.rule) == (
        "MetaCurvature(rule=Clip(rule=Momentum(lr=0.01, momentum=0.9, nesterov=False), max_norm=2.0), matrices=learned)"
    )
    assert len(learner.rate_names) == 3
    learner = RunConfig(SinusoidData(), MLPNet(context=5), CAVIAMethod()).build()
    assert learner.adapted == ("context",) and learner.rule.lr == 1.0
    for config in RUNS.values():
        assert RunConfig.from_json(config.to_json()) == config
    assert "film" not in RunConfig(DATA, SMALL).to_json() and "film" not in RunConfig(DATA, SMALL).network["arguments"]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith(("meta-lstm", "meta-curv", "cavia"))])
def test_presets_say_how_many_steps_they_report(name):
    config = PRESETS[name][1]
    assert (config.protocol.report or config.protocol.steps) in (config.method.test_steps, 10)
    if name.startswith("cavia"):
        assert config.build().adapted in (("context",), ("blocks.2.2.context",))


@pytest.mark.long
@pytest.mark.parametrize("method", [pytest.param(m, marks=[] if m == "cavia" else [pytest.mark.slow]) for m in RUNS])
def test_own_images_train_by_them(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", classes=9, images=6)
    outer = ["--training.steps", "2", "--training.validate-every", "2", "--training.meta-batch", "2"]
    few = ["--protocol.tasks", "3", "--validation-tasks", "2", "--net.width", "4", "--training.checkpoint-every", "2"]
    words = ["--method", method, "--ways", "2", "--shots", "1", *outer, *few, "--method.compile", "off", "--quiet"]
    assert main(["train", "--data", "photos", *words]) == 0
    assert f"runs/{method}-photos-2w1s" in capsys.readouterr().out
