"""The contract between the service and its page: every address, and what it answers."""

import io
import zipfile

import pytest
import torch
from starlette.testclient import TestClient

from fastadapt.serve.app import create_app
from fastadapt.serve.limits import Limits
from serve.kit import SHAPES, adapt, classes, coded, create, drawing, lines_of, picture, waves


@pytest.fixture(scope="module")
def client():
    app = create_app([drawing(), waves()], limits=Limits(workers=2, seconds=300))
    with TestClient(app) as client:
        yield client


def test_the_server_is_alive_and_describes_itself(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/models", "/api/tasks", "/api/tasks/{id}", "/api/tasks/{id}/adapt"} <= set(paths)
    assert {"/api/tasks/{id}/predict", "/api/tasks/{id}/export", "/healthz", "/metrics"} <= set(paths)


def test_models_say_what_they_take(client):
    answer = client.get("/api/models").json()
    image, points = answer["models"]
    assert image["name"] == "drawing" and image["ways"] == {"fewest": 2, "most": 5}
    assert image["input"] == {"kind": "image", "size": 28, "channels": 1, "invert": True}
    assert image["steps"] == {"default": 3, "most": 50} and image["shots"] == {"most": 10}
    assert [method["name"] for method in image["methods"]] == ["maml", "fine-tune", "nearest-mean"]
    assert all(method["title"] and method["about"] for method in image["methods"])
    assert points["input"] == {"kind": "points", "inputs": 1, "outputs": 1} and points["ways"] is None
    assert [method["name"] for method in points["methods"]] == ["reptile", "fine-tune"]
    assert answer["limits"] | {"body_bytes": 8_000_000, "images": 400, "queries": 64} == answer["limits"]
    assert answer["limits"]["seconds"] == 300 and answer["limits"]["ttl_seconds"] == 1800
    assert Limits().seconds == 10  # tests are patient, because machines are busy


def test_a_task_is_created_shown_and_dropped(client):
    answer = client.post("/api/tasks", json={"model": "drawing", "classes": classes(3, 2)})
    task = answer.json()
    assert answer.status_code == 201
    assert task | {"model": "drawing", "classes": list(SHAPES[:3]), "shots": [2, 2, 2], "adapted": []} == task
    assert 1795 <= task["expires_in"] <= 1800 and len(task["id"]) == 22
    assert client.get(f"/api/tasks/{task['id']}").json() == task
    assert client.delete(f"/api/tasks/{task['id']}").status_code == 204
    assert client.get(f"/api/tasks/{task['id']}").status_code == 404
    assert client.delete(f"/api/tasks/{task['id']}").json()["error"]["code"] == "unknown_task"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_image_format_is_taken_with_and_without_a_prefix(client, kind):
    plain, prefixed = coded("ring", kind=kind), f"data:image/{kind.lower()};base64,{coded('cross', kind=kind)}"
    create(client, classes=[{"name": "a", "images": [plain]}, {"name": "b", "images": [prefixed]}])


def test_an_adaptation_streams_one_line_a_step_and_then_ends(client):
    task = create(client, classes=classes(3, 2))
    queries = [coded(name, shift=3) for name in SHAPES[:3]]
    answer = client.post(
        f"/api/tasks/{task}/adapt", json={"method": "maml", "steps": 5, "queries": queries, "sequence": 17}
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    *steps, done = lines_of(answer)
    assert [line["step"] for line in steps] == [0, 1, 2, 3, 4, 5]
    assert {line["sequence"] for line in [*steps, done]} == {17}
    assert steps[-1]["loss"] < steps[0]["loss"] and steps[-1]["support_accuracy"] == 1.0
    for line in steps:
        assert torch.tensor(line["probabilities"]).shape == (3, 3) and line["held_out"] is None
        assert torch.tensor(line["probabilities"]).sum(1).tolist() == pytest.approx([1.0] * 3)
    assert done["done"] is True and done["seconds"] > 0 and 0 <= done["held_out"] <= 1
    assert 0 <= done["held_out_before"] <= 1
    assert [entry["class"] for entry in done["nearest"]] == [0, 1, 2] and all(
        e["image"] in (0, 1) for e in done["nearest"]
    )
    assert client.get(f"/api/tasks/{task}").json()["adapted"] == ["maml"]


@pytest.mark.parametrize("method", ["maml", "fine-tune", "nearest-mean"])
def test_predict_repeats_the_last_line_of_every_method(client, method):
    task, queries = create(client), [coded("ring", shift=2), coded("bars")]
    *steps, done = adapt(client, task, method=method, steps=2, queries=queries)
    assert [line["step"] for line in steps] == ([0] if method == "nearest-mean" else [0, 1, 2])
    assert done["held_out"] is None  # one sample a class
    answer = client.post(f"/api/tasks/{task}/predict", json={"method": method, "queries": queries}).json()
    assert answer["probabilities"] == steps[-1]["probabilities"]
    best = [row.index(max(row)) for row in answer["probabilities"]]
    assert answer["labels"] == [SHAPES[i] for i in best]


def test_what_is_left_out_is_the_models_own(client):
    task = create(client)
    left_out, given = adapt(client, task), adapt(client, task, method="maml", steps=3, rate=None)
    assert left_out[:-1] == given[:-1] and len(given) == 4 + 1
    assert client.get(f"/api/tasks/{task}").json()["adapted"] == ["maml"]


def test_the_rate_is_the_one_asked_for(client):
    task = create(client)
    still = adapt(client, task, steps=2, rate=1e-12)
    assert still[0]["loss"] == pytest.approx(still[2]["loss"], abs=1e-6)
    assert adapt(client, task, steps=2, rate=0.3)[2]["loss"] < still[2]["loss"] - 0.01


def test_points_are_adapted_and_predicted(client):
    x = [[-1.0], [0.0], [1.0], [2.0]]
    task = create(client, "waves", rows={"x": x, "y": [[-0.8], [0.1], [0.8], [0.9]]})
    *steps, done = adapt(client, task, steps=30, queries=x)
    assert steps[-1]["loss"] < steps[0]["loss"] and steps[0]["support_accuracy"] is None
    assert torch.tensor(steps[-1]["predictions"]).shape == (4, 1) and "probabilities" not in steps[0]
    assert done["nearest"] == [] and done["held_out"] is None
    answer = client.post(f"/api/tasks/{task}/predict", json={"queries": x}).json()
    assert answer == {"predictions": steps[-1]["predictions"]}
    kept = client.get(f"/api/tasks/{task}").json()
    assert kept["classes"] is None and kept["shots"] == [4]


def test_no_queries_give_no_answers(client):
    task = create(client)
    *steps, done = adapt(client, task, steps=1, queries=[])
    assert [line["probabilities"] for line in steps] == [[], []] and done["nearest"] == []
    assert client.post(f"/api/tasks/{task}/predict", json={"queries": []}).json() == {"probabilities": [], "labels": []}


def form(client, files, **fields):
    return client.post("/api/tasks", data={"model": "drawing", **fields}, files=files)


def test_files_and_archives_make_the_same_task_as_json(client):
    asked = {"steps": 2, "queries": [coded("ring", shift=3)]}
    named = {f"{name}/{i}.png": picture(name, shift=2 * i) for name in SHAPES[:3] for i in range(2)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in named.items():
            archive.writestr(f"my task/{name}", content)
        archive.writestr("__MACOSX/my task/._x.png", b"junk")
        archive.writestr("my task/.DS_Store", b"junk")
    files = [("support", (name, content, "image/png")) for name, content in named.items()]
    ways = [
        create(client, classes=classes(3, 2)),
        form(client, files).json()["id"],
        form(client, [("archive", ("task.zip", packed.getvalue(), "application/zip"))]).json()["id"],
    ]
    first, *others = [adapt(client, task, **asked)[:-1] for task in ways]
    assert all(other == first for other in others)
    shown = client.get(f"/api/tasks/{ways[2]}").json()
    assert shown["classes"] == list(SHAPES[:3]) and shown["shots"] == [2, 2, 2]


def test_cancelling_nothing_is_no_mistake(client):
    assert client.delete(f"/api/tasks/{create(client)}/adapt").status_code == 204


def test_metrics_count_what_was_done(client):
    task = create(client)
    adapt(client, task, steps=1)
    text = client.get("/metrics").text
    assert 'fastadapt_adaptations_total{model="drawing",method="maml",ended="done"}' in text
    assert 'fastadapt_requests_total{route="/api/tasks/{id}/adapt",method="POST",status="200"}' in text
    assert task not in text
    assert "fastadapt_adaptation_seconds_bucket" in text and "fastadapt_jobs_running 0" in text
