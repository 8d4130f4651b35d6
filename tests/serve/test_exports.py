"""What is taken away gives the answers that the server gave."""

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile

import pytest
import torch
from safetensors.torch import save
from starlette.testclient import TestClient

from fastadapt import load_predictor
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import CheckpointError
from fastadapt.serve.app import create_app
from fastadapt.serve.exports import export, sweep_exports
from fastadapt.serve.jobs import Job
from fastadapt.serve.limits import Limits
from fastadapt.serve.plain import as_plain
from fastadapt.serve.problems import Problem
from serve.kit import SHAPES, adapt, classes, coded, create, drawing, picture, waves

QUERY = {"shift": 3}
POINTS = {"rows": {"x": [[-1.0], [0.0], [1.0]], "y": [[-0.8], [0.1], [0.8]]}}


@pytest.fixture(scope="module")
def client():
    models = [drawing(), drawing("beside", norm="transductive"), drawing("averages", norm="running"), waves()]
    with TestClient(create_app(models, limits=Limits(workers=1, seconds=300))) as client:
        yield client


def adapted(client, name, method=None):
    if name == "waves":
        task, queries = create(client, name, **POINTS), [[0.5], [1.5]]
    else:
        task, queries = create(client, name, classes=classes(3, 2)), [coded("ring", **QUERY), coded("bars", **QUERY)]
    *_, last, _ = adapt(client, task, method=method, steps=2, queries=queries)
    return task, torch.tensor(last["predictions" if name == "waves" else "probabilities"])


def taken(client, task, kind, method=None):
    params = {"format": kind} | ({} if method is None else {"method": method})
    answer = client.get(f"/api/tasks/{task}/export", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def unpacked(content, folder):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return folder / "adapted"


def inputs(predictor):
    recipe = predictor.details["input"]
    if recipe["kind"] == "points":
        return torch.tensor([[0.5], [1.5]])
    return torch.stack([ImageRecipe(**recipe).decode(picture(name, **QUERY), "q") for name in ("ring", "bars")])


MODELS = [("drawing", "maml"), ("drawing", "fine-tune"), ("drawing", "nearest-mean"), ("beside", "maml"),
          ("averages", "maml"), ("waves", "reptile")]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), MODELS)
def test_the_model_answers_as_the_server_did(client, tmp_path, name, method):
    task, expected = adapted(client, name, method)
    predictor = load_predictor(unpacked(taken(client, task, "model", method).content, tmp_path))
    with torch.no_grad():
        found = torch.cat([predictor(row) for row in inputs(predictor).split(1)]).double()
    found = found if name == "waves" else found.softmax(-1)
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-7)
    assert predictor.details["method"] == method and predictor.details["run"] == name
    assert predictor.labels == (None if name == "waves" else list(SHAPES[:3]))


@pytest.mark.parametrize(("name", "method"), MODELS)
def test_a_plain_network_answers_as_the_predictor(client, tmp_path, name, method):
    task, expected = adapted(client, name, method)
    predictor = load_predictor(unpacked(taken(client, task, "model", method).content, tmp_path))
    x = inputs(predictor)
    network = as_plain(predictor, x[:1]).eval()
    with torch.no_grad():
        found = torch.cat([network(row) for row in x.split(1)])
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["drawing", pytest.param("waves", marks=pytest.mark.slow)])
def test_the_snippet_runs_and_says_the_same(client, tmp_path, name):
    task, expected = adapted(client, name)
    unpacked(taken(client, task, "model").content, tmp_path)
    (tmp_path / "query.png").write_bytes(picture("ring", **QUERY))
    answer = taken(client, task, "snippet")
    assert answer.headers["content-type"].startswith("text/x-python")
    (tmp_path / "use.py").write_text(answer.text)
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if name == "drawing":
        found = eval(done.stdout)
        assert list(found) == list(SHAPES[:3])
        assert list(found.values()) == pytest.approx(expected[0].tolist(), rel=1e-4)


def test_a_task_taken_away_and_brought_back_is_the_same_task(client):
    task, _ = adapted(client, "drawing")
    answer = taken(client, task, "zip")
    assert answer.headers["content-type"] == "application/zip"
    assert "fastadapt-drawing-task.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [f"{name}/{i}.png" for name in SHAPES[:3] for i in (1, 2)]
    again = client.post(
        "/api/tasks", data={"model": "drawing"}, files=[("archive", ("task.zip", answer.content))]
    ).json()["id"]
    asked = {"steps": 2, "queries": [coded("dot")]}
    assert adapt(client, again, **asked)[:-1] == adapt(client, task, **asked)[:-1]


def test_points_have_no_images_to_pack(client):
    answer = client.get(f"/api/tasks/{create(client, 'waves', **POINTS)}/export", params={"format": "zip"})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "no_images"


def test_the_weights_it_came_from_are_named(client, tmp_path):
    task, _ = adapted(client, "drawing")
    weights = client.app.state.service.models["drawing"].run.learner.state_dict()
    base = load_predictor(unpacked(taken(client, task, "model").content, tmp_path)).details["base"]
    assert base == {"step": 0, "sha256": hashlib.sha256(save(weights)).hexdigest()}


def test_a_name_that_archives_pass_over_is_no_name(client):
    for name in (".net", "__MACOSX", ".."):
        answer = client.post("/api/tasks", json={"model": "drawing", "classes": [{**classes(2)[0], "name": name}]})
        assert answer.json()["error"]["code"] == "bad_name", name


def test_the_zip_that_the_page_saves_is_a_task_too(client):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("task.json", "{}")
        for name in SHAPES[:2]:
            archive.writestr(f"{name}/1.png", picture(name))
    answer = client.post("/api/tasks", data={"model": "drawing"}, files=[("archive", ("t.zip", content.getvalue()))])
    assert answer.status_code == 201 and answer.json()["classes"] == list(SHAPES[:2])


def test_an_export_ends_when_nobody_wants_it_any_more(client, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stored = client.app.state.service.store.get(adapted(client, "drawing")[0])
    job = Job(60)
    job.begin()
    threading.Timer(0.3, job.cancel).start()
    began = time.monotonic()
    with pytest.raises(Problem, match="cancelled"):
        export(client.app.state.service.models["drawing"], stored, "onnx", "maml", job)
    assert time.monotonic() - began < 3 and list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for owner in (gone.pid, os.getpid(), "someone"):
        (tmp_path / f"fastadapt-export-{owner}-abc").mkdir()
    sweep_exports()
    assert {path.name.split("-")[2] for path in tmp_path.iterdir()} == {str(os.getpid()), "someone"}


def test_a_full_disk_is_the_servers_trouble(client, monkeypatch, caplog):
    task, _ = adapted(client, "drawing")

    def full(*args):
        raise CheckpointError("could not write /srv/secret: no space left")

    monkeypatch.setattr("fastadapt.serve.exports.save_predictor", full)
    answer = client.get(f"/api/tasks/{task}/export", params={"format": "model"})
    assert answer.status_code == 500 and "secret" not in answer.text and "no space left" in caplog.text


@pytest.mark.skipif(importlib.util.find_spec("onnx") is not None, reason="onnx is installed")
def test_without_onnx_the_answer_says_what_to_install(client):
    task, _ = adapted(client, "drawing")
    answer = client.get(f"/api/tasks/{task}/export", params={"format": "onnx"})
    assert answer.status_code == 501 and "fastadapt[export]" in answer.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), [("drawing", "maml"), ("beside", "maml"), ("waves", "reptile")])
def test_onnx_answers_as_the_server_did(client, tmp_path, name, method):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    task, expected = adapted(client, name, method)
    predictor = load_predictor(unpacked(taken(client, task, "model", method).content, tmp_path))
    session = runtime.InferenceSession(taken(client, task, "onnx", method).content)
    x = inputs(predictor)
    alone = [session.run(None, {"x": row.numpy()})[0][0].tolist() for row in x.split(1)]
    torch.testing.assert_close(torch.tensor(alone), expected.float(), rtol=1e-4, atol=1e-5)
    if name != "beside":
        together = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        torch.testing.assert_close(together, expected.float(), rtol=1e-4, atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == predictor.labels
