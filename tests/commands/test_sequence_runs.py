"""SNAIL and memory-augmented networks as runs: trained, exported, loaded, evaluated, adapted, asked, served."""

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
from fastadapt.compare.by_instance import by_instance
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError
from fastadapt.methods.sequence_settings import MANNMethod, SNAILMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.runs.config import RunConfig
from fastadapt.serve.adaptation import nearest, steps_of
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.served import ServedModel
from fastadapt.serve.to_onnx import write_onnx

DATA = OmniglotData(ways=3, train_ways=4, shots=1, queries=2, rotation="none")
MEMORY = MANNMethod(hidden=8, slots=8, width=4, heads=2)
RUNS = {
    "snail": RunConfig(DATA, Conv4Net(width=4, affine="both"), SNAILMethod(filters=4)),
    "mann": RunConfig(DATA, MLPNet(hidden=()), MEMORY),
    "lstm": RunConfig(DATA, MLPNet(hidden=()), replace(MEMORY, slots=None)),
}


@pytest.fixture(params=RUNS, scope="module")
def run(request, tmp_path_factory):
    """Return the configuration and folder of a run that was trained for a moment."""
    return trained(RUNS[request.param], tmp_path_factory.mktemp("sequence") / "run")


@pytest.mark.long
def test_a_run_is_used_as_one_of_maml_is_and_for_as_many_classes_as_it_has_labels(run, tmp_path, capsys):
    config, folder = run
    loaded = load_run(folder)
    assert loaded.config == config and loaded.step == 4 and (loaded.fewest_ways, loaded.most_ways) == (2, 4)
    result = evaluate(loaded.learner, noisy_classes(), config.protocol)
    assert len(result.mean) == 1 and result.metric == "accuracy" and 0 <= result.result <= 1
    if isinstance(config.method, MANNMethod):
        assert len(by_instance(loaded.learner, noisy_classes(), config.protocol).mean) == 3
    for name in (*NAMES, "cross2", "ring2"):
        for i in range(2):
            draw(
                tmp_path / "drawings" / name / f"{i}.png",
                name.rstrip("2"),
                shift=4 * i,
                side=70 if "2" in name else 105,
            )
    out = tmp_path / "adapted"
    assert main(["adapt", str(folder), str(tmp_path / "drawings"), "--out", str(out)]) != 0
    assert "5" in capsys.readouterr().err and not out.exists()  # one class too many
    for i in range(2):
        (tmp_path / "drawings" / "ring2" / f"{i}.png").unlink()
    (tmp_path / "drawings" / "ring2").rmdir()
    assert adapt.run(AdaptSettings(run=folder, data=tmp_path / "drawings", out=out)) == 0
    assert "4 classes (bars, cross, cross2, ring) from 2 images each in 0 steps" in capsys.readouterr().out
    files = tuple(tmp_path / "drawings" / name / "1.png" for name in NAMES)
    assert predict.run(PredictSettings(predictor=out, files=files)) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [str(path) for path in files]
    assert load_predictor(out)(torch.rand(1, 1, 28, 28)).shape == (1, 4)


@pytest.mark.long
def test_training_goes_on_bit_for_bit(run, tmp_path):
    config, _ = run
    weights = weights_in_parts(config, tmp_path)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.long
def test_it_is_served_for_no_more_classes_than_it_has_labels(run):
    config, folder = run
    model = ServedModel(load_run(folder))
    assert [method.name for method in model.methods] == [type(config.method).__name__.removesuffix("Method").lower()]
    assert "trained" not in model.methods[0].about  # it has words of its own
    assert model.describe(Limits())["ways"] == {"fewest": 2, "most": 4}
    for ways in (2, 3, 4):
        support, queries = (torch.rand(2 * ways, 1, 28, 28), torch.arange(2 * ways) % ways), torch.rand(3, 1, 28, 28)
        [step] = steps_of(model, model.own_method, support, 0, None, queries, lambda: None)
        torch.testing.assert_close(step.answers.sum(1), torch.ones(3, dtype=torch.float64))
        assert step.answers.shape == (3, ways) and step.accuracy is not None
        found = nearest(step.predictor, support, support[0][:2], lambda: None)
        assert found == [{"class": i % ways, "image": i // ways} for i in range(2)]  # of themselves
    assert model.bytes_for(3, 10) >= 0
    with pytest.raises(Problem, match="there are 5 classes, run takes 2 to 4"):
        model.run_for(5)


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
    predictor, x = load_predictor(tmp_path / "out"), torch.rand(3, 1, 28, 28)
    [got] = runtime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"x": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), predictor(x).softmax(1), rtol=1e-4, atol=1e-5)


def test_sizes_follow_from_the_tasks():
    config = replace(RUNS["snail"], data=replace(DATA, train_ways=None, shots=5, train_shots=5))
    assert RunConfig.from_json(config.to_json()) == config
    settings = config.build().comparison.settings
    assert settings == {"ways": 3, "features": 4, "length": 16, "filters": 4}
    assert RUNS["mann"].build().comparison.ways == 4 and RUNS["lstm"].build().comparison.controller.access is None


def test_tasks_that_do_not_fit_are_refused():
    with pytest.raises(
        ConfigError, match=r"data\.train_ways=2 is below data\.ways=3, and labels that no training task"
    ):
        replace(RUNS["snail"], data=replace(DATA, train_ways=2))
    with pytest.raises(ConfigError, match="MANNMethod tells classes apart, and SinusoidData has numbers"):
        RunConfig(SinusoidData(), MLPNet(), MEMORY)


@pytest.mark.long
@pytest.mark.parametrize("method", ["snail", "mann"])
def test_own_images_train_and_are_measured(method, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", classes=9, images=6)
    few = ["--training.steps", "2", "--training.validate-every", "2", "--training.checkpoint-every", "2"]
    words = [*few, "--protocol.tasks", "3", "--validation-tasks", "2", "--net.width", "4", "--quiet"]
    assert main(["train", "--data", "photos", "--method", method, "--ways", "2", "--shots", "1", *words]) == 0
    folder = f"runs/{method}-photos-2w1s"
    assert folder in capsys.readouterr().out
    done = main(["evaluate", folder, "--by-instance", "--json"])
    told = capsys.readouterr()
    if method == "mann":
        assert done == 0 and len(json.loads(told.out)["by_instance"]["mean"]) >= 2
    else:
        assert done != 0 and "SNAIL answers behind a support set" in told.err
