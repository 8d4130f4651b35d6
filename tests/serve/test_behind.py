"""Runs on embeddings, served behind the backbone that these were computed by."""

import io
import zipfile
from dataclasses import replace

import pytest
import torch
from starlette.testclient import TestClient

from fastadapt import load_predictor
from fastadapt.backbones.backbone import find_backbone
from fastadapt.backbones.shown import Shown
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.errors import ConfigError
from fastadapt.methods.head_settings import HEADS
from fastadapt.nets.settings import FeaturesNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.run_files import export_learner
from fastadapt.serve.app import create_app
from fastadapt.serve.behind import behind
from fastadapt.serve.limits import Limits
from fastadapt.serve.served import ServedModel, load_served
from serve.kit import SHAPES, adapt, classes, coded, create, loaded, picture

DATA = EmbeddingsData(ways=3, features=3 * 28 * 28, backbone="the pixels of 28x28")


def head(name="cl2n", **data):
    run = loaded(RunConfig(replace(DATA, **data), FeaturesNet(), HEADS[name]), name)
    if run.learner.centre is not None:
        run.learner.centre = torch.linspace(0, 1, DATA.features)
    return run


def test_images_are_answered_as_their_embeddings_are_and_the_head_can_be_taken_away(tmp_path):
    run, backbone = head(), find_backbone("pixels")
    model = ServedModel(behind(run, backbone))
    told = model.describe(Limits())
    assert told["input"]["kind"] == "image" and told["ways"]["fewest"] == 2
    assert [(method["name"], method["steps"]) for method in told["methods"]] == [("centroid", False)]
    assert "behind the pixels of 28x28" in told["title"] and "others have trained" in told["methods"][0]["about"]
    with TestClient(create_app([model], limits=Limits(workers=1, seconds=300))) as client:
        task = create(client, "cl2n", classes=classes(3, 2))
        [first, _] = adapt(client, task, queries=[coded("ring", shift=3), coded("bars", shift=1)])
        recipe, shown = model.recipe, Shown(backbone, model.run.input)

        def embedded(*names, **more):
            return shown(torch.stack([recipe.decode(picture(name, **more), "p.png") for name in names]))

        x = torch.cat([embedded(name, shift=shift) for name in SHAPES[:3] for shift in (0, 2)])
        own = run.learner.adapt((x, torch.arange(3).repeat_interleave(2)))
        asked = torch.cat([embedded("ring", shift=3), embedded("bars", shift=1)])
        answers = torch.tensor(first["probabilities"], dtype=torch.float64)
        torch.testing.assert_close(answers, own(asked).double().softmax(1), rtol=1e-5, atol=1e-6)

        file = client.get(f"/api/tasks/{task}/export?format=model")
        assert file.status_code == 200, file.text
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            archive.extractall(tmp_path)
        mine = load_predictor(tmp_path / "adapted")
        assert mine.details["input"] == DATA.input and mine.labels == list(SHAPES[:3])
        torch.testing.assert_close(mine(asked), own(asked))
        snippet = client.get(f"/api/tasks/{task}/export?format=snippet").text
        assert "read_embeddings" in snippet and "the pixels of 28x28" in snippet


def test_heads_are_offered_beside_each_other():
    backbone = find_backbone("pixels")
    model = ServedModel(behind(head(), backbone), others=[behind(head("ridge"), backbone)])
    assert [method.name for method in model.methods] == ["centroid", "ridge"]
    assert model.run_for(4, "ridge").input["size"] == 28


def test_a_folder_is_served_with_its_backbone_alone(tmp_path):
    run = head()
    export_learner(tmp_path / "cl2n", run.config, run.learner.state_dict(), 0)
    model = load_served(str(tmp_path / "cl2n"), (), find_backbone("pixels"))
    assert model.name == "cl2n" and model.recipe is not None
    assert torch.equal(model.learner("centroid", 4).centre, run.learner.centre)
    with pytest.raises(ConfigError, match="name that one with --backbone"):
        load_served(str(tmp_path / "cl2n"))


def test_a_run_without_its_backbone_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="cl2n is on embeddings by the pixels of 28x28: name that one with --b"):
        behind(head(), None)
    with pytest.raises(ConfigError, match="and the pixels of 32x32 is another"):
        behind(head(), find_backbone("pixels", size=32))
    with pytest.raises(ConfigError, match="don't say what computed them"):
        behind(head(backbone=""), find_backbone("pixels"))
