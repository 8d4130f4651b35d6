"""Runs of several methods served as one model, to be compared side by side."""

import io
import zipfile

import pytest
import torch
from starlette.testclient import TestClient

from fastadapt import load_predictor
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import ConfigError
from fastadapt.methods.family_settings import MAMLPlusPlusMethod, ProtoMAMLMethod
from fastadapt.methods.metric_settings import ProtoNetMethod
from fastadapt.methods.rule_settings import CAVIAMethod, MetaLSTMMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.runs.config import OmniglotData, RunConfig
from fastadapt.serve.adaptation import steps_of
from fastadapt.serve.app import create_app
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.served import ServedModel
from serve.kit import adapt, coded, create, loaded, picture

NET = Conv4Net(width=8)


def maml(**data):
    return loaded(RunConfig(OmniglotData(**{"ways": 5, "fewest_ways": 3, **data}), NET, MAMLMethod()), "maml")


def protonet(**data):
    return loaded(RunConfig(OmniglotData(ways=5, **data), NET, ProtoNetMethod()), "protonet")


def test_a_metric_method_is_offered_beside_gradient_steps_for_the_classes_that_both_take():
    model = ServedModel(maml(), others=[protonet()])
    assert [method.name for method in model.methods][:2] == ["maml", "protonet"]
    told = model.describe(Limits())
    assert told["ways"] == {"fewest": 3, "most": 5}
    x, y = torch.rand(3, 1, 28, 28), torch.arange(3)
    for method, states in (("maml", 3), ("protonet", 1)):
        steps = list(steps_of(model, method, (x, y), 2, None, x[:2], lambda: None))
        assert len(steps) == states
        torch.testing.assert_close(steps[-1].answers.sum(1), torch.ones(2, dtype=torch.float64))
    with pytest.raises(Problem, match="there are 6 classes, protonet takes 3 to 5"):
        ServedModel(protonet(), others=[maml()]).run_for(6)
    assert len({model.digest(name) for name in ("maml", "protonet")}) == 2


def test_a_metric_method_alone_takes_any_number_of_classes():
    assert ServedModel(protonet()).run_for(9).ways == 9


def test_runs_on_other_tasks_are_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"maml can't be compared .* don't both take tasks of 5 classes"):
        ServedModel(protonet(), others=[maml(ways=4)])
    with pytest.raises(ConfigError, match="maml can't be compared with protonet: it takes another kind of input"):
        ServedModel(protonet(), others=[maml(invert=False)])
    with pytest.raises(ConfigError, match="use one method twice"):
        ServedModel(maml(), others=[maml()])


def named(name, method, **data):
    return loaded(RunConfig(OmniglotData(ways=5, fewest_ways=3, **data), NET, method), name)


def test_runs_of_one_class_are_told_apart_by_what_they_adapt_or_by_their_folders():
    runs = [
        named("first", MAMLMethod()),
        named("second", MAMLMethod()),
        named("third", MAMLMethod(adapt=("head",))),
        named("fourth", MAMLMethod(adapt=("body",))),
        named("fifth", MAMLMethod(meta_gradient="first_order")),
    ]
    model = ServedModel(runs[0], others=runs[1:])
    told = {method.name: method.title for method in model.methods}
    assert list(told)[:5] == ["maml", "maml-second", "anil", "boil", "fomaml"]
    assert list(told.values())[:5] == ["MAML", "MAML (second)", "ANIL", "BOIL", "FOMAML"]
    assert len({method.about for method in model.methods[2:]}) == len(model.methods) - 2
    assert model.run_for(5, "maml-second") is runs[1] and model.run_for(5, "anil") is runs[2]


@pytest.mark.parametrize("method", [MetaLSTMMethod(hidden=3), CAVIAMethod(), ProtoMAMLMethod(), MAMLPlusPlusMethod()])
def test_what_is_left_without_meta_learning_is_told_as_it_is(method):
    net = Conv4Net(width=4, film=3 * isinstance(method, CAVIAMethod))
    model = ServedModel(loaded(RunConfig(OmniglotData(ways=5, fewest_ways=3), net, method), "run"))
    [without] = [each for each in model.methods if each.name == "fine-tune"]
    assert without.about != "the same gradient steps from a random start: what is left without meta-learning"
    assert without.steps and model.methods[0].steps
    assert ("optimizer" in without.about) == isinstance(method, MetaLSTMMethod)


def test_a_method_without_steps_says_so_and_can_be_taken_away(tmp_path):
    model = ServedModel(maml(), others=[protonet()])
    steps = {method["name"]: method["steps"] for method in model.describe(Limits())["methods"]}
    assert steps == {"maml": True, "protonet": False, "fine-tune": True, "nearest-mean": False}
    with TestClient(create_app([model], limits=Limits(workers=1, seconds=300))) as client:
        task = create(client, model="maml")
        assert [line["step"] for line in adapt(client, task, method="protonet", steps=7)[:-1]] == [0]
        told = client.get(f"/api/tasks/{task}/export?format=snippet&method=protonet").text
        assert "adapted by protonet in 0 steps" in told
        told = client.get(f"/api/tasks/{task}/export?format=model&method=protonet")
        assert told.status_code == 200, told.text
        with zipfile.ZipFile(io.BytesIO(told.content)) as archive:
            archive.extractall(tmp_path)
        query = ImageRecipe(**model.run.input).decode(picture("ring"), "ring.png").unsqueeze(0)
        asked = {"method": "protonet", "queries": [coded("ring")]}
        answer = client.post(f"/api/tasks/{task}/predict", json=asked).json()["probabilities"][0]
        mine = load_predictor(tmp_path / "adapted")(query).double().softmax(1)[0]
        torch.testing.assert_close(mine, torch.tensor(answer, dtype=torch.float64), rtol=1e-5, atol=1e-6)
