"""Metric methods as runs: trained, exported, loaded, evaluated, adapted to drawings of more classes, and asked."""

import json
from dataclasses import replace

import pytest
import torch

from commands.short_runs import NAMES, draw, noisy_classes, trained, weights_in_parts
from drawn_folder import make_folder
from fastadapt import evaluate, load_predictor, load_run
from fastadapt.cli import main
from fastadapt.commands import adapt, predict
from fastadapt.commands.adapt import AdaptSettings
from fastadapt.commands.predict import PredictSettings
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError
from fastadapt.methods.metric_settings import (
    AdaptiveSubspacesMethod,
    MatchingNetMethod,
    ProtoNetMethod,
    RelationNetMethod,
    SiameseNetMethod,
)
from fastadapt.methods.set_settings import MemoryModuleMethod, NeuralStatisticianMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import (
    Conv4Net,
    MLPNet,
    RareEventsEncoderNet,
    RelationEncoderNet,
    StatisticianEncoderNet,
    ViTNet,
)
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_folder import WIDER
from fastadapt.runs.run_files import LoadedRun
from fastadapt.serve.adaptation import nearest, steps_of
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.served import ServedModel
from fastadapt.serve.to_onnx import write_onnx

DATA = OmniglotData(ways=3, shots=1, queries=2, rotation="none")
SMALL = Conv4Net(width=4, affine="both")
RUNS = {
    "protonet": RunConfig(DATA, SMALL, ProtoNetMethod()),
    "matching": RunConfig(DATA, SMALL, MatchingNetMethod(full_context=True)),
    "siamese": RunConfig(DATA, SMALL, SiameseNetMethod()),
    "relation": RunConfig(DATA, RelationEncoderNet(width=4), RelationNetMethod(width=4)),
    "subspaces": RunConfig(DATA, ViTNet(depth=1, width=8, heads=2), AdaptiveSubspacesMethod()),
    "statistician": RunConfig(
        DATA, StatisticianEncoderNet(width=2), NeuralStatisticianMethod(hidden=8, context=6, latent=3, width=2)
    ),
    "memory": RunConfig(DATA, RareEventsEncoderNet(width=2, features=16), MemoryModuleMethod(keys=8)),
}


@pytest.fixture(params=RUNS, scope="module")
def run(request, tmp_path_factory):
    """Return the configuration and folder of a run that was trained for a moment."""
    return trained(RUNS[request.param], tmp_path_factory.mktemp("metric") / "run")


@pytest.mark.long
def test_a_run_is_used_as_one_of_maml_is_and_for_more_classes(run, tmp_path, capsys):
    config, folder = run
    loaded = load_run(folder)
    assert loaded.config == config and loaded.step == 4
    result = evaluate(loaded.learner, noisy_classes(), config.protocol)
    assert len(result.mean) == 1 and result.metric == "accuracy" and 0 <= result.result <= 1
    for name in (*NAMES, "cross2"):  # four classes, where the tasks of the training had three
        for i in range(2):
            draw(
                tmp_path / "drawings" / name / f"{i}.png",
                name.rstrip("2"),
                shift=4 * i,
                side=105 if "2" not in name else 70,
            )
    out = tmp_path / "adapted"
    assert adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=out)) == 0
    assert "4 classes (bars, cross, cross2, ring) from 2 images each in 0 steps" in capsys.readouterr().out
    files = tuple(tmp_path / "drawings" / name / "1.png" for name in NAMES)
    assert predict.run(PredictSettings(predictor=out, files=files)) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [str(path) for path in files]
    predictor, x = load_predictor(out), torch.rand(1, 1, 28, 28)
    learner = loaded.learner
    y = torch.arange(8) // 2
    support = (torch.rand(8, 1, 28, 28), y)
    assert learner.adapt(support)(x).shape == predictor(x).shape == (1, 4)


@pytest.mark.long
def test_training_goes_on_bit_for_bit(run, tmp_path):
    config, _ = run
    weights = weights_in_parts(config, tmp_path)
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_it_is_served_for_any_number_of_classes(run):
    config, folder = run
    model = ServedModel(load_run(folder))
    assert [method.name for method in model.methods] == [type(config.method).__name__.removesuffix("Method").lower()]
    assert model.describe(Limits())["ways"] == {"fewest": 2, "most": 20}
    for ways in (2, 3, 7):
        support, queries = (torch.rand(2 * ways, 1, 28, 28), torch.arange(2 * ways) % ways), torch.rand(3, 1, 28, 28)
        [step] = steps_of(model, model.own_method, support, 0, None, queries, lambda: None)
        torch.testing.assert_close(step.answers.sum(1), torch.ones(3, dtype=torch.float64))
        assert step.answers.shape == (3, ways) and step.accuracy is not None
        found = nearest(step.predictor, support, support[0][:3], lambda: None)
        assert found == [{"class": i % ways, "image": i // ways} for i in range(3)]  # of themselves
    assert model.bytes_for(3, 10) >= 0
    with pytest.raises(Problem, match="there are 1 classes, run takes 2 or more"):
        model.run_for(1)


@pytest.mark.slow
@pytest.mark.parametrize("shots", [1, 2])
def test_its_predictor_is_exported_as_onnx(run, tmp_path, shots):
    runtime = pytest.importorskip("onnxruntime")
    _, folder = run
    for name in NAMES:
        for i in range(shots):
            draw(tmp_path / "drawings" / name / f"{i}.png", name, shift=4 * i)
    adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=tmp_path / "out"))
    write_onnx(tmp_path / "out", tmp_path / "model.onnx")
    predictor, x = load_predictor(tmp_path / "out"), torch.rand(1, 1, 28, 28)
    [got] = runtime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"x": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), predictor(x).softmax(1), rtol=1e-4, atol=1e-5)


def test_a_configuration_survives_json():
    for config in RUNS.values():
        wider = replace(config, data=replace(DATA, train_ways=8))
        assert RunConfig.from_json(wider.to_json()) == wider
        assert "train_ways" not in config.to_json()  # what was written before there was the setting stays as it was
    assert RUNS["protonet"].data.sizes("train")["ways"] == 3
    sizes = replace(DATA, train_ways=8)
    assert [sizes.sizes(part)["ways"] for part in ("train", "val", "test")] == [8, 3, 3]


def test_numbers_and_networks_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="ProtoNetMethod tells classes apart, and SinusoidData has numbers"):
        RunConfig(SinusoidData(), MLPNet(), ProtoNetMethod())
    with pytest.raises(ConfigError, match=r"data\.train_ways=8 needs a network that serves any number of classes"):
        RunConfig(replace(DATA, train_ways=8), SMALL, MAMLMethod())
    with pytest.raises(ConfigError, match=r"data\.train_ways must be at least 2"):
        replace(DATA, train_ways=1)
    with pytest.raises(ConfigError, match="run is made for 2 or more classes, not for 1"):
        LoadedRun(RUNS["protonet"].build(), RUNS["protonet"], "run", 0).narrowed(1)


@pytest.mark.long
@pytest.mark.parametrize("method", ["protonet", "matching", "siamese", "relation", "dsn", "statistician", "memory"])
def test_own_images_train_by_any_metric_method(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", classes=9, images=6)
    words = [
        "--training.steps",
        "2",
        "--training.validate-every",
        "2",
        "--protocol.tasks",
        "3",
        "--validation-tasks",
        "2",
    ]
    small = ["--net.width", "4", "--training.checkpoint-every", "2", "--quiet"]
    done = main(["train", "--data", "photos", "--method", method, "--ways", "2", "--shots", "1", *words, *small])
    assert done == 0 and f"runs/{method}-photos-2w1s" in capsys.readouterr().out
    data = json.loads((tmp_path / "runs" / f"{method}-photos-2w1s" / "config.json").read_text())["data"]
    assert data.get("train_ways") == (len(data["train_classes"]) if method in WIDER else None)
