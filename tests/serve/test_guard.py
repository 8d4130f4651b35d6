"""Tokens, hosts, other sites, and the headers that every answer carries."""

import pytest
from starlette.testclient import TestClient

from fastadapt.serve.app import create_app
from fastadapt.serve.guard import HEADERS
from fastadapt.serve.limits import Limits
from fastadapt.serve.run import hosts_of
from serve.kit import classes, drawing

SMALL = Limits(workers=1, seconds=300)


@pytest.fixture(scope="module")
def model():
    return drawing()


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/models", "/nonsense", "/static/nonsense", "/openapi.json"])
def test_every_answer_carries_the_security_headers(model, path):
    with TestClient(create_app([model], limits=SMALL)) as client:
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_other_origins_are_not_let_in(model):
    with TestClient(create_app([model], limits=SMALL)) as client:
        origin = {"origin": "https://example.org", "access-control-request-method": "POST"}
        assert "access-control-allow-origin" not in client.options("/api/tasks", headers=origin).headers
        answer = client.post(
            "/api/tasks", json={"model": "drawing", "classes": classes()}, headers={"sec-fetch-site": "cross-site"}
        )
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_site"
        assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code != 403


def test_a_token_is_asked_for_where_there_is_one(model):
    with TestClient(create_app([model], limits=SMALL, token="sésame")) as client:
        bearer = "Bearer sésame".encode()
        assert client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").status_code == 200
        for path in ("/api/models", "/api/tasks/x", "/metrics"):
            for given in (None, b"Bearer", b"Bearer wrong", b"Basic " + bearer[7:], bearer[7:], bearer + b"x"):
                answer = client.get(path, headers={} if given is None else {b"authorization": given})
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "token_needed", (path, given)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/api/models", headers={b"authorization": bearer}).status_code == 200
        assert client.get("/api/models", headers={b"authorization": b"bearer  " + bearer[7:]}).status_code == 200


def test_a_server_of_this_machine_answers_under_its_own_names_only(model):
    assert hosts_of("0.0.0.0") is None and hosts_of("192.168.1.5") is None
    hosts = hosts_of("127.0.0.1")
    assert hosts is not None and {"127.0.0.1", "localhost", "[::1]"} == set(hosts) == set(hosts_of("localhost") or ())
    with TestClient(create_app([model], limits=SMALL, hosts=hosts)) as client:
        for host in ("127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:80"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example:8765", "", "[::2]"):
            answer = client.get("/healthz", headers={"host": host})
            assert answer.status_code == 400 and answer.json()["error"]["code"] == "unknown_host", host


def test_the_page_comes_from_its_folder(model, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "app.js").write_text("export {}")
    with TestClient(create_app([model], limits=SMALL, web=tmp_path)) as client:
        assert "<title>page</title>" in client.get("/").text
        script = client.get("/static/app.js")
        assert script.status_code == 200 and "javascript" in script.headers["content-type"]
    with TestClient(create_app([model], limits=SMALL, web=tmp_path / "absent")) as client:
        assert client.get("/").status_code == 404 and client.get("/api/models").status_code == 200
