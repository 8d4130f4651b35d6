"""Bodies, images and archives that are too large, whatever they say of themselves (S1 to S5).

Times are those of this process, in which the server runs too, so that a busy machine changes nothing.
"""

import asyncio
import base64
import io
import socket
import struct
import time
import zipfile
import zlib
from urllib.parse import unquote

import pytest
from PIL import Image
from starlette.testclient import TestClient

from fastadapt.serve.app import create_app
from fastadapt.serve.archive import read_archive
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from serve.kit import browser, coded, create, drawing, listening, picture

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server():
    with listening(create_app([drawing()], limits=Limits(workers=2, seconds=300))) as address:
        with browser(address) as client:
            create(client)  # the first one also measures what the network needs
        yield address


@pytest.fixture
def client(server):
    with browser(server) as client:
        yield client


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_a_body_above_the_limit_is_refused_as_it_is_read(client):
    began = time.process_time()
    refused(client.post("/api/tasks", content=b" " * 8_000_001, headers=JSON), 413, "body_too_large")

    def chunks():
        for _ in range(90):
            yield b" " * 100_000

    refused(client.post("/api/tasks", content=chunks(), headers=JSON), 413, "body_too_large")
    files = [("support", ("a/1.png", bytes(8_100_000)))]
    refused(client.post("/api/tasks", data={"model": "drawing"}, files=files), 413, "body_too_large")
    assert time.process_time() - began < 5


def raw(address, head, body):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(head.replace(b"HOST", host.encode()) + b"\r\n\r\n" + body)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while part := line.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize("length", [b"-1", b"nonsense", b"99999999999999999999", b"9000000"])
def test_a_lying_content_length_does_no_harm(server, length):
    head = b"POST /api/tasks HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: " + length
    answer = raw(server, head, b"{}")
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4",)), answer[:100]
    with browser(server) as client:
        assert client.get("/healthz").status_code == 200


def test_ten_thousand_parts_are_refused(client):
    part = b'--x\r\nContent-Disposition: form-data; name="support"; filename="a/1.png"\r\n\r\nx\r\n'
    began = time.process_time()
    answer = client.post(
        "/api/tasks", content=part * 10_000 + b"--x--\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert 400 <= answer.status_code < 500 and "error" in answer.json()
    assert time.process_time() - began < 3


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"classes":[{"images":'])
def test_deep_json_is_refused_quickly(client, opening):
    began = time.process_time()
    refused(client.post("/api/tasks", content=opening * 100_000, headers=JSON), 400, "bad_json")
    assert time.process_time() - began < 2


def one_bit_png(side):
    """Return a PNG of paper only: a few kilobytes that unpack to `side * side` pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_metadata(content):
    """Return a PNG with a compressed text that unpacks to 50 MB."""
    text = b"zTXt" + b"k\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize("side", [4_100, 13_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(client, side):
    bomb = base64.b64encode(one_bit_png(side)).decode()
    classes = [{"name": "a", "images": [bomb]}, {"name": "b", "images": [coded("ring")]}]
    began = time.process_time()
    answer = client.post("/api/tasks", json={"model": "drawing", "classes": classes})
    refused(answer, 400, "bad_image")
    assert "16 million" in answer.json()["error"]["message"] and time.process_time() - began < 1


def test_a_bomb_in_the_metadata_is_refused(client):
    bomb = base64.b64encode(with_metadata(picture("ring"))).decode()
    classes = [{"name": "a", "images": [bomb]}, {"name": "b", "images": [coded("ring")]}]
    began = time.process_time()
    refused(client.post("/api/tasks", json={"model": "drawing", "classes": classes}), 400, "bad_image")
    assert time.process_time() - began < 2


def many_scans(times):
    """Return a progressive JPEG whose last scan comes again and again: small, and slow to decode."""
    content = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * times + whole[-2:]


def test_an_image_of_too_many_scans_is_refused_before_it_is_decoded(client):
    for times, status in ((0, 201), (2000, 400)):
        bomb = base64.b64encode(many_scans(times)).decode()
        classes = [{"name": "a", "images": [bomb]}, {"name": "b", "images": [coded("ring")]}]
        answer = client.post("/api/tasks", json={"model": "drawing", "classes": classes})
        assert answer.status_code == status, answer.text
    assert "scans, the most allowed are 100" in answer.json()["error"]["message"]


@pytest.mark.long
def test_of_a_long_animation_only_the_first_frame_is_decoded(client):
    frames = [Image.new("L", (1000, 1000), shade) for shade in range(0, 250, 2)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    classes = [{"name": "a", "images": [base64.b64encode(content.getvalue()).decode()]}]
    classes.append({"name": "b", "images": [coded("ring")]})
    began = time.process_time()
    assert client.post("/api/tasks", json={"model": "drawing", "classes": classes}).status_code == 201
    assert time.process_time() - began < 1


def test_a_body_that_does_not_arrive_is_not_waited_for():
    app = create_app([drawing()], limits=Limits(workers=1, body_seconds=0.3))
    with listening(app) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as half:
            head = (
                "POST /api/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100"
            )
            half.sendall(f"{head}\r\n\r\n{{".encode())
            half.settimeout(10)
            answer = b""
            while b"body_too_slow" not in answer and (part := half.recv(4000)):  # head and body may come apart
                answer += part
        assert answer.startswith(b"HTTP/1.1 408") and b"body_too_slow" in answer


def test_decoding_has_a_time_limit():
    app = create_app([drawing()], limits=Limits(workers=1, seconds=0.3))
    large = base64.b64encode(one_bit_png(3_900)).decode()
    with TestClient(app) as client:
        classes = [{"name": name, "images": [large] * 10} for name in "abcde"]
        began = time.process_time()
        refused(client.post("/api/tasks", json={"model": "drawing", "classes": classes}), 503, "too_slow")
        assert time.process_time() - began < 3


def test_a_task_that_would_take_too_much_memory_is_refused():
    app = create_app([drawing()], limits=Limits(workers=1, job_bytes=100_000, seconds=300))
    with TestClient(app) as client:
        body = {"model": "drawing", "classes": [{"name": n, "images": [coded("ring")] * 5} for n in "ab"]}
        refused(client.post("/api/tasks", json=body), 413, "too_much_memory")


def packed(members, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members:
            archive.writestr(name, value, **options)
    return content.getvalue()


def test_an_archive_is_unpacked_within_limits():
    limits = Limits()
    bomb = packed([("a/1.png", bytes(100_000_000))])
    assert len(bomb) < 200_000
    for content, code in (
        (bomb, "archive_too_large"),
        (packed([(f"a/{i}.png", bytes(900_000)) for i in range(80)]), "archive_too_large"),
        (packed([(f"a/{i}.png", b"x") for i in range(1000)]), "archive_too_large"),
        (packed([(f"{'n' * 200}/{i}", b"") for i in range(5000)]), "archive_too_large"),
    ):
        with pytest.raises(Problem) as caught:
            read_archive(content, limits)
        assert (caught.value.status, caught.value.code) == (413, code)
    assert read_archive(packed([("a/1.png", b"x"), ("b/1.png", b"y")]), limits) == [
        ("a", "1.png", b"x"),
        ("b", "1.png", b"y"),
    ]


def test_an_archive_that_is_no_task_is_refused():
    link = zipfile.ZipInfo("a/1.png")
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    whole = packed([("a/1.png", picture("ring"))])
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    at = whole.rfind(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    for content in (
        linked.getvalue(),
        bytes(encrypted),
        whole[: len(whole) // 2],
        b"nonsense",
        b"PK\x05\x06",
        packed([]),
        packed([("1.png", b"x")]),
        packed([("/abs.png", b"x")]),
        packed([("a/b/c/1.png", b"x")]),
        packed([("a/b/1.png", b"x"), ("a/1.png", b"x")]),
    ):
        with pytest.raises(Problem) as caught:
            read_archive(content, Limits())
        assert caught.value.status == 400 and caught.value.code == "bad_archive"


def test_names_in_an_archive_never_become_paths(client):
    content = packed([("../evil.png", picture("ring")), ("b/1.png", picture("cross"))])
    answer = client.post("/api/tasks", data={"model": "drawing"}, files=[("archive", ("t.zip", content))])
    refused(answer, 422, "bad_name")


def test_a_broken_archive_never_breaks_the_server():
    whole = bytearray(packed([("a/1.png", picture("ring")), ("b/1.png", picture("cross"))]))
    for i in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        try:
            read_archive(bytes(damaged), Limits())
        except Problem as problem:
            assert problem.status in (400, 413)


def traversals():
    up = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "%c0%ae%c0%ae/",
        "..%00/",
        "....//",
        "%252e%252e%252f",
    ]
    targets = ["etc/passwd", "app.py", "serve/app.py", "__init__.py", "proc/self/environ"]
    for n in (1, 2, 3, 6, 12):
        for step in up:
            for target in targets:
                yield step * n + target


async def status_and_body(app, path):
    """Ask the application itself, with a path as a server hands it over."""
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode("utf-8", "surrogatepass")}
    scope |= {"query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http", "root_path": ""}
    scope |= {"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}}
    sent = []

    bodies = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return bodies.pop() if bodies else await asyncio.Event().wait()  # the client stays

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_no_path_leads_out_of_the_page(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("page")
    (tmp_path / "app.py").write_text("secret")
    (tmp_path / "web2").mkdir()
    (tmp_path / "web2" / "app.py").write_text("secret")
    (tmp_path / "web" / "link").symlink_to(tmp_path / "app.py")
    app = create_app([drawing()], limits=Limits(workers=1, seconds=300), web=tmp_path / "web")

    async def all_of_them():
        tried = 0
        for path in [*traversals(), "../web2/app.py", "link", "../app.py"]:
            for form in {path, unquote(path, errors="replace"), unquote(unquote(path, errors="replace"))}:
                for root in ("/static/", "/", "/api/tasks/"):
                    status, body = await status_and_body(app, root + form)
                    assert status in (400, 404), (root + form, status)
                    assert b"root:" not in body and b"secret" not in body
                    tried += 1
        assert (await status_and_body(app, "/static/index.html")) == (200, b"page")
        return tried

    assert asyncio.run(all_of_them()) >= 1000


def test_odd_addresses_are_not_found(client):
    odd = ["%00", "a%00.png", "%ff", "%ed%a0%80", "a" * 3000, "con", "%0a", "missing.html/", "..%2f..%2fetc%2fpasswd"]
    for name in odd:
        for root in ("/static/", "/", "/api/tasks/"):
            assert client.get(root + name).status_code in (400, 404), root + name


def test_the_server_still_works_afterwards(client):
    create(client)
