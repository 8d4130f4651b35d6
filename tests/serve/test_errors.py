"""Every mistake a client can make has a status, a code, a place and one sentence."""

import base64
import io

import pytest
from PIL import Image
from starlette.testclient import TestClient

from fastadapt.runs.config import MLPNet, ReptileMethod, RunConfig, SinusoidData
from fastadapt.serve.app import create_app
from fastadapt.serve.limits import Limits
from fastadapt.serve.served import ServedModel
from serve.kit import SHAPES, adapt, coded, create, drawing, loaded, picture, waves


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app([drawing(), waves()], limits=Limits(workers=2, seconds=300))) as client:
        yield client


def refused(answer, status, code, field=None):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and set(error) == {"code", "message", "field"}
    assert (error["code"], error["field"]) == (code, field), error
    assert error["message"] and "Traceback" not in error["message"] and "\n" not in error["message"]
    return error["message"]


def two(**changed):
    return [{"name": "a", "images": [coded("ring")], **changed}, {"name": "b", "images": [coded("cross")]}]


def saved(kind, mode):
    image, stream = Image.open(io.BytesIO(picture("ring"))).convert(mode), io.BytesIO()
    image.save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return base64.b64encode(stream.getvalue()).decode()


BAD_TASKS = {
    **{
        f"one image in two classes, {what}": (
            {"model": "drawing", "classes": [*two(), {"name": "c", "images": [coded("bars"), again]}]},
            422,
            "same_image",
            "classes[2].images[1]",
        )
        for what, again in {
            "byte for byte": coded("ring"),
            "as a data address": f"data:image/png;base64,{coded('ring')}",
            "in colour": saved("PNG", "RGB"),
            "as a GIF": saved("GIF", "L"),
            "as a WebP": saved("WEBP", "RGB"),
            "transparent": saved("PNG", "RGBA"),
        }.items()
    },
    "no model": ({"classes": two()}, 422, "bad_value", "model"),
    "another model": ({"model": "x", "classes": two()}, 422, "unknown_model", "model"),
    "nothing": ({"model": "drawing"}, 422, "bad_task", "classes"),
    "rows for images": ({"model": "drawing", "rows": {"x": [[1.0]], "y": [[1.0]]}}, 422, "bad_task", "classes"),
    "images for rows": ({"model": "waves", "classes": two()}, 422, "bad_task", "rows"),
    "both": ({"model": "waves", "classes": two(), "rows": {"x": [[1]], "y": [[1]]}}, 422, "bad_task", "classes"),
    "one class": ({"model": "drawing", "classes": two()[:1]}, 422, "too_few_classes", "classes"),
    "too many classes": (
        {"model": "drawing", "classes": [{"name": str(i), "images": [coded("dot")]} for i in range(6)]},
        422,
        "too_many_classes",
        "classes",
    ),
    "too many shots": (
        {"model": "drawing", "classes": two(images=[coded("dot")] * 11)},
        422,
        "too_many_images_of_a_class",
        "classes[0].images[0]",
    ),
    "too many images": ({"model": "drawing", "classes": two(images=["x"] * 401)}, 413, "too_many_images", "classes"),
    "no images": ({"model": "drawing", "classes": two(images=[])}, 422, "bad_value", "classes[0].images"),
    "a number for an image": (
        {"model": "drawing", "classes": two(images=[5])},
        422,
        "bad_value",
        "classes[0].images[0]",
    ),
    "no base64": ({"model": "drawing", "classes": two(images=["!"])}, 400, "bad_base64", "classes[0].images[0]"),
    "an empty image": ({"model": "drawing", "classes": two(images=[""])}, 400, "bad_base64", "classes[0].images[0]"),
    "text for an image": (
        {"model": "drawing", "classes": two(images=[base64.b64encode(b"hello").decode()])},
        400,
        "bad_image",
        "classes[0].images[0]",
    ),
    "half an image": (
        {"model": "drawing", "classes": two(images=[base64.b64encode(picture("ring")[:80]).decode()])},
        400,
        "bad_image",
        "classes[0].images[0]",
    ),
    "a tiny image": (
        {"model": "drawing", "classes": two(images=[coded("dot", side=12)])},
        400,
        "bad_image",
        "classes[0].images[0]",
    ),
    "the same name": ({"model": "drawing", "classes": two(name="b")}, 422, "same_name", "classes[1].name"),
    "no name": ({"model": "drawing", "classes": two(name=" ")}, 422, "bad_name", "classes[0].name"),
    "a long name": ({"model": "drawing", "classes": two(name="n" * 61)}, 422, "bad_name", "classes[0].name"),
    "a path": ({"model": "drawing", "classes": two(name="../a")}, 422, "bad_name", "classes[0].name"),
    "dots": ({"model": "drawing", "classes": two(name="..")}, 422, "bad_name", "classes[0].name"),
    "a bell": ({"model": "drawing", "classes": two(name="a\a")}, 422, "bad_name", "classes[0].name"),
    "turned text": ({"model": "drawing", "classes": two(name="a\u202eb")}, 422, "bad_name", "classes[0].name"),
    "an unknown key": ({"model": "drawing", "classes": two(), "extra": 1}, 422, "bad_value", "extra"),
    "ragged rows": (
        {"model": "waves", "rows": {"x": [[1.0], [1.0, 2.0]], "y": [[1.0], [2.0]]}},
        422,
        "bad_rows",
        "rows.x[1]",
    ),
    "fewer targets": ({"model": "waves", "rows": {"x": [[1.0], [2.0]], "y": [[1.0]]}}, 422, "bad_rows", "rows"),
    "a huge number": (
        {"model": "waves", "rows": {"x": [[1e39], [2.0]], "y": [[1.0], [1.0]]}},
        422,
        "bad_rows",
        "rows.x",
    ),
    "a truth": ({"model": "waves", "rows": {"x": [[True]], "y": [[1.0]]}}, 422, "bad_value", "rows.x[0][0]"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_task_that_cannot_be_is_refused(client, name):
    body, status, code, field = BAD_TASKS[name]
    refused(client.post("/api/tasks", json=body), status, code, field)


BAD_ADAPTS = {
    "method": ({"method": "nonsense"}, 422, "unknown_method", "method"),
    "steps": ({"steps": 51}, 422, "too_many_steps", "steps"),
    "negative steps": ({"steps": -1}, 422, "bad_value", "steps"),
    "half a step": ({"steps": 1.5}, 422, "bad_value", "steps"),
    "a truth for steps": ({"steps": True}, 422, "bad_value", "steps"),
    "a text for steps": ({"steps": "5"}, 422, "bad_value", "steps"),
    "no rate": ({"rate": 0}, 422, "bad_value", "rate"),
    "queries": ({"queries": ["a"] * 65}, 422, "too_many_queries", "queries"),
    "a bad query": ({"queries": [coded("ring"), "!"]}, 400, "bad_base64", "queries[1]"),
    "a number": ({"queries": [[1.0]]}, 422, "bad_value", "queries[0]"),
    "sequence": ({"sequence": -1}, 422, "bad_value", "sequence"),
    "unknown": ({"speed": 1}, 422, "bad_value", "speed"),
}


@pytest.mark.parametrize("name", BAD_ADAPTS)
def test_an_adaptation_that_cannot_be_is_refused(client, name):
    body, status, code, field = BAD_ADAPTS[name]
    refused(client.post(f"/api/tasks/{create(client)}/adapt", json=body), status, code, field)


def test_numbers_that_are_not_finite_are_refused(client):
    for text in ('{"rate": NaN}', '{"rate": Infinity}', '{"rate": 1e999}'):
        answer = client.post(
            f"/api/tasks/{create(client)}/adapt", content=text, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 422), text
        assert answer.json()["error"]["code"] in ("bad_json", "bad_value")


def test_an_adaptation_that_diverges_says_so_in_its_last_line(client):
    task = create(client, "waves", rows={"x": [[1.0], [2.0]], "y": [[1e18], [-1e18]]})
    *steps, last = adapt(client, task, steps=50, rate=100.0, sequence=3)
    assert last["sequence"] == 3 and last["error"]["code"] == "diverged" and last["error"]["field"] == "rate"
    assert steps[0]["step"] == 0
    assert client.get(f"/api/tasks/{task}").json()["adapted"] == []


def test_an_answer_that_is_not_finite_is_the_querys_fault():
    method = ReptileMethod(inner_lr=0.01, inner_rule="sgd", test_batch=None, test_steps=1, inner_state="reset")
    config = RunConfig(SinusoidData(shots=4), MLPNet(hidden=(16, 16), activation="relu", init_std=3.0), method)
    with TestClient(create_app([ServedModel(loaded(config, "relu"))], limits=Limits(workers=1))) as client:
        task = create(client, "relu", rows={"x": [[0.0], [1.0]], "y": [[0.0], [1.0]]})
        assert adapt(client, task, steps=1)[-1]["done"]
        for path in ("adapt", "predict"):
            answer = client.post(f"/api/tasks/{task}/{path}", json={"queries": [[3e38]]})
            assert answer.status_code == 422 and answer.json()["error"]["field"] == "queries", answer.text


def test_what_was_not_adapted_can_neither_answer_nor_be_taken_away(client):
    task = create(client)
    adapt(client, task, method="fine-tune", steps=1)
    refused(client.post(f"/api/tasks/{task}/predict", json={"queries": []}), 409, "not_adapted", "method")
    for kind in ("model", "onnx", "snippet"):
        refused(client.get(f"/api/tasks/{task}/export", params={"format": kind}), 409, "not_adapted", "method")
    refused(client.get(f"/api/tasks/{task}/export", params={"format": "pickle"}), 422, "bad_value", "format")
    refused(client.get(f"/api/tasks/{task}/export"), 422, "bad_value", "format")


@pytest.mark.parametrize("path", ["", "/adapt", "/predict", "/export?format=zip"])
@pytest.mark.parametrize("id", ["x", "A" * 22, "..", "%00", "a" * 5000])
def test_an_unknown_task_is_not_found(client, path, id):
    method = "POST" if path in ("/adapt", "/predict") else "GET"
    answer = client.request(method, f"/api/tasks/{id}{path}", json={"queries": []} if method == "POST" else None)
    assert answer.status_code in (404, 405) and answer.json()["error"]["message"]


def test_unknown_addresses_and_methods_answer_in_the_same_form(client):
    refused(client.get("/nonsense"), 404, "not_found")
    refused(client.get("/api/nonsense"), 404, "not_found")
    refused(client.put("/api/tasks"), 405, "method_not_allowed")
    refused(client.get("/docs"), 404, "not_found")


@pytest.mark.parametrize("path", ["", "/{id}/adapt", "/{id}/predict"])
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "", "application/jsonp"]
)
def test_only_json_and_forms_are_taken(client, path, kind):
    address = f"/api/tasks{path}".replace("{id}", create(client))
    answer = client.post(address, content=b"{}", headers={"content-type": kind})
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b'{"model": "\\ud800"}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(client, content):
    answer = client.post("/api/tasks", content=content, headers={"content-type": "application/json"})
    refused(answer, 400, "bad_json")


@pytest.mark.parametrize("content", [b"[]", b"null", b"5", b'"text"'])
def test_json_that_is_no_object_is_refused(client, content):
    answer = client.post("/api/tasks", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "bad_value"


def test_a_form_needs_a_model_and_files_of_a_class(client):
    def post(fields, files):
        return client.post("/api/tasks", data=fields, files=files)

    good = ("support", ("a/1.png", picture("ring")))
    refused(post({}, [good]), 422, "bad_value", "model")
    refused(post({"model": "drawing"}, [("support", ("1.png", picture("ring")))]), 422, "bad_name", "support[0]")
    refused(post({"model": "drawing"}, [("files", ("a/1.png", picture("ring")))]), 422, "bad_value")
    refused(post({"model": "drawing"}, [("support", ("../etc/passwd", b"x")), good]), 422, "bad_name", "support[0]")
    refused(post({"model": "drawing"}, [good, ("archive", ("a.zip", b"PK"))]), 422, "bad_task", "support")
    refused(post({"model": "drawing"}, [good, ("support", ("b/1.png", b"x"))]), 400, "bad_image", "support[1]")
    broken = client.post(
        "/api/tasks", content=b"--x\r\nnonsense", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert 400 <= broken.status_code < 500 and "error" in broken.json()


@pytest.mark.parametrize("content", [b"\x80\x04\x95", b"PK\x03\x04", b"\x93NUMPY", b"{}"])
def test_weights_are_no_images_and_no_archives(client, content):
    """No address takes weights: what looks like a pickle, an archive or an array is refused by its content."""
    coded_content = base64.b64encode(content + bytes(64)).decode()
    answer = client.post("/api/tasks", json={"model": "drawing", "classes": two(images=[coded_content])})
    refused(answer, 400, "bad_image", "classes[0].images[0]")
    answer = client.post("/api/tasks", data={"model": "drawing"}, files=[("archive", ("m.pt", content + bytes(64)))])
    refused(answer, 400, "bad_archive", "archive")


def test_a_bug_tells_the_client_nothing(client, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("secret /home/user")

    monkeypatch.setattr(client.app.state.service, "describe", broken)
    answer = client.get("/api/models")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["error"]["code"] == "internal" and "default-src" in answer.headers["content-security-policy"]
    assert "secret" in caplog.text
    task = create(client)
    monkeypatch.setattr("fastadapt.serve.adaptation.steps_of", broken)
    answer = client.post(f"/api/tasks/{task}/adapt", json={})
    assert answer.status_code == 500 and "secret" not in answer.text


def test_the_names_of_classes_may_be_in_any_script(client):
    names = ["Ψάρι", "рыба 🐟", "魚", "a family 👨‍👩‍👧"]
    task = create(
        client, classes=[{"name": name, "images": [coded(shape)]} for name, shape in zip(names, SHAPES, strict=False)]
    )
    assert client.get(f"/api/tasks/{task}").json()["classes"] == names
