"""Tokens, hosts, other sites, and the headers that every answer carries."""

import socket
import threading
import time

import pytest
from starlette.testclient import TestClient

from fastadapt.serve import adaptation
from fastadapt.serve.app import create_app
from fastadapt.serve.guard import HEADERS
from fastadapt.serve.limits import Limits
from fastadapt.serve.prompt import Prompt
from fastadapt.serve.run import hosts_of
from serve.kit import adapt, browser, classes, create, drawing, listening

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


ELSEWHERE = {
    "another site's form, from an old browser": {"origin": "http://evil.example"},
    "the same host, another port": {"origin": "http://testserver:3000"},
    "a subdomain": {"origin": "http://evil.testserver", "sec-fetch-site": "same-site"},
    "no origin, but another one of the site": {"sec-fetch-site": "same-site"},
    "a sandboxed frame or a file": {"origin": "null"},
    "a name that only begins alike": {"origin": "http://testserver.evil.example"},
}


@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("method, path", [("POST", "/api/tasks"), ("DELETE", "/api/tasks/abc")])
def test_pages_of_other_origins_can_not_make_the_machine_work(model, headers, method, path):
    with TestClient(create_app([model], limits=SMALL)) as client:
        answer = client.request(method, path, content=b"x", headers={"content-type": "text/plain", **headers})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_site"


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://testserver"}, {"origin": "http://testserver", "sec-fetch-site": "same-origin"}],
    ids=["a program", "the page in an old browser", "the page"],
)
def test_the_page_and_programs_pass(model, headers):
    with TestClient(create_app([model], limits=SMALL)) as client:
        assert client.post("/api/tasks", json={}, headers=headers).status_code == 422


def test_a_request_with_two_lengths_ends_its_connection(model):
    with listening(create_app([model], limits=SMALL)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as smuggling:
            head = (
                "POST /api/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            smuggling.sendall(f"{head}0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            smuggling.settimeout(10)
            answer = b""
            while part := smuggling.recv(4000):
                answer += part
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1


def test_a_server_is_ready_once_its_models_were_tried(model, monkeypatch):
    tried, hold = [], threading.Event()

    def slowly(*arguments):
        hold.wait(30)
        tried.append(arguments[1])
        return iter(())

    monkeypatch.setattr(adaptation, "steps_of", slowly)
    with TestClient(create_app([model], limits=SMALL, warm=True)) as client:
        waiting = client.get("/readyz")
        assert waiting.status_code == 503 and waiting.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200  # alive all the same
        hold.set()
        end = time.monotonic() + 30
        while client.get("/readyz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.01)
        assert client.get("/readyz").json() == {"status": "ready"}
        assert tried == [method.name for method in model.methods]


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


@pytest.mark.parametrize(
    ("again", "sent"), [(False, b""), (False, b"GET /healthz HTTP/1.1\r\nHost: lo"), (True, b"GET")]
)
def test_a_head_that_does_not_arrive_is_not_waited_for(model, again, sent):
    class Soon(Prompt):
        seconds = 0.5

    with (
        listening(create_app([model]), http=Soon, timeout_keep_alive=60) as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as client,
    ):
        if again:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(sent)
        while client.recv(4096):  # until the server ends it
            pass


@pytest.mark.long
@pytest.mark.parametrize(("rest", "ends"), [(60.0, False), (0.5, True)])
def test_what_is_left_of_a_body_has_a_limit_of_its_own(model, rest, ends):
    class Soon(Prompt):
        seconds = 0.3

    Soon.rest = rest
    with (
        listening(create_app([model], token="word"), http=Soon) as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as client,
    ):
        client.sendall(b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")  # before anything of the body has come
        cut = False
        for _ in range(20):
            try:
                client.sendall(b"x")
            except OSError:
                cut = True
                break
            time.sleep(0.05)
        assert cut == ends


def test_a_header_now_and_then_does_not_keep_a_connection(model):
    class Soon(Prompt):
        seconds = 0.5

    with (
        listening(create_app([model]), http=Soon) as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as client,
    ):
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for i in range(300):
                client.sendall(b"X-%d: 1\r\n" % i)
                time.sleep(0.05)


@pytest.mark.long
def test_an_answer_that_takes_longer_is_not_cut_off(model, monkeypatch):
    class Soon(Prompt):
        seconds = 0.3

    judged = adaptation._judged
    monkeypatch.setattr(adaptation, "_judged", lambda *args: (time.sleep(0.3), judged(*args))[1])
    with listening(create_app([model]), http=Soon) as address, browser(address) as client:
        assert adapt(client, create(client), steps=4)[-1]["done"]
