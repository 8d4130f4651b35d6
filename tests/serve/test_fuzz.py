"""Bodies nobody thought of: no answer is a 5xx, and every status is one that the description names (S9)."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fastadapt.serve.app import create_app
from fastadapt.serve.limits import Limits
from serve.kit import coded, create, drawing, waves

CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def client():
    with TestClient(
        create_app([drawing(), waves()], limits=Limits(workers=2, seconds=300)), raise_server_exceptions=False
    ) as client:
        yield client


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
IMAGE = st.sampled_from([coded("ring"), coded("cross", kind="JPEG"), "", "!", "AAAA", coded("dot", side=5)]) | JSON
CLASS = st.fixed_dictionaries({"name": st.text(max_size=70) | JSON, "images": st.lists(IMAGE, max_size=3) | JSON})
ROWS = st.lists(st.lists(st.floats(), max_size=2), max_size=4) | JSON
TASK = st.fixed_dictionaries(
    {"model": st.sampled_from(["drawing", "waves", "x"]) | JSON},
    optional={
        "classes": st.lists(CLASS, max_size=6) | JSON,
        "rows": st.fixed_dictionaries({"x": ROWS, "y": ROWS}) | JSON,
        "extra": JSON,
    },
)
ADAPT = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["maml", "fine-tune", "nearest-mean", "reptile"]) | JSON,
        "steps": st.integers(-2, 4) | JSON,
        "rate": st.floats(0, 200) | JSON,
        "queries": st.lists(IMAGE, max_size=3) | ROWS,
        "sequence": st.integers() | JSON,
    },
)


def check(client, path, answer):
    assert answer.status_code < 500, answer.text
    described = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert str(answer.status_code) in described, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"code", "message", "field"}


def post(client, path, body, **places):
    content = json.dumps(body).encode()  # with NaN and Infinity, which JSON does not have
    answer = client.post(path.format(**places), content=content, headers={"content-type": "application/json"})
    check(client, path, answer)
    return answer


FIT = st.fixed_dictionaries(
    {},
    optional={
        "photo": IMAGE,
        "sound": st.sampled_from(["UklGRgAAAABXQVZF", "AAAA"]) | IMAGE,
        "example": st.sampled_from(["photo", "sound"]) | JSON,
        "steps": st.integers(-2, 1) | JSON,
        "side": st.integers(0, 30) | JSON,
        "seconds": st.floats(0, 0.2) | JSON,
        "sequence": st.integers() | JSON,
    },
)


@CALM
@given(body=FIT | JSON)
@pytest.mark.long
def test_any_fit(client, body):
    post(client, "/api/fit", body)


@CALM
@given(body=TASK | JSON)
def test_any_task(client, body):
    post(client, "/api/tasks", body)


@CALM
@given(body=ADAPT | JSON, model=st.sampled_from(["drawing", "waves"]))
@pytest.mark.long
def test_any_adaptation_and_prediction(client, body, model):
    rows = {"x": [[0.0], [1.0]], "y": [[1.0], [0.0]]}
    task = create(client) if model == "drawing" else create(client, "waves", rows=rows)
    answer = post(client, "/api/tasks/{id}/adapt", body, id=task)
    if answer.status_code == 200:
        assert all(json.loads(line) for line in answer.text.splitlines())
    post(client, "/api/tasks/{id}/predict", body, id=task)


@CALM
@given(
    content=st.binary(max_size=200), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", ""])
)
def test_any_bytes(client, content, kind):
    check(client, "/api/tasks", client.post("/api/tasks", content=content, headers={"content-type": kind}))


@CALM
@given(
    name=st.text(max_size=30),
    file=st.text(max_size=30),
    content=st.binary(max_size=60),
    part=st.sampled_from(["support", "archive", "model", "x"]),
)
def test_any_form(client, name, file, content, part):
    answer = client.post("/api/tasks", data={"model": name}, files=[(part, (file, content))])
    check(client, "/api/tasks", answer)


def breaks(operation):
    """Ask one address a thousand times in ways that its description allows and forbids."""
    described = set(operation.definition.raw["responses"])

    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def never(case):
        answer = case.call()
        assert answer.status_code < 500
        assert str(answer.status_code) in described, f"{operation.label}: {answer.status_code} {answer.text}"

    never()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_schemathesis_finds_nothing():
    schemathesis = pytest.importorskip("schemathesis")
    app = create_app([drawing()], limits=Limits(workers=2, seconds=300))
    operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        breaks(operation)
