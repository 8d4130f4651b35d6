"""The downloader against a local server that resumes, ignores ranges, cuts connections and lies."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from fastadapt.data.download import cache_folder, data_folders, download
from fastadapt.errors import ConfigError, DataError, DownloadError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serve `CONTENT` at any address; the settings say how badly."""

    ranges = True  # whether Range is honoured
    cut_after = None  # bytes after which the first `cuts` answers end
    cuts = 0
    failures = 0  # answers of 503 before the first good one
    code = None  # always answer this instead
    shift = 0  # how far the range in the answer is from the one asked for

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = cast(Server, self.server), self.headers.get("Range")
        server.seen.append(asked)
        if server.code or server.failures:
            server.failures = max(0, server.failures - 1)
            self.send_error(server.code or 503)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            first = start + server.shift
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut_after]
        self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: Server, path: Path, **kwargs) -> Path:
    return download(server.url, path, **{"checksum": MD5, "backoff": 0.01, "timeout": 5.0, **kwargs})


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_file_arrives_whole_and_once(server, tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    assert get(server, path) == path
    assert path.read_bytes() == CONTENT and not part_of(path).exists()
    get(server, path)
    assert server.seen == [None]


def test_a_file_put_there_by_hand_is_kept(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"mine")
    assert get(server, path).read_bytes() == b"mine"
    assert server.seen == []


def test_an_earlier_part_is_continued(server, tmp_path):
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT[:5000])
    assert get(server, path).read_bytes() == CONTENT
    assert server.seen == ["bytes=5000-"]


def test_a_part_that_is_already_whole(server, tmp_path):
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT)
    assert get(server, path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(b"x" * 5000)
    assert get(server, path).read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for_starts_over(server, tmp_path):
    server.shift = 7
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(CONTENT[:5000])
    assert get(server, path).read_bytes() == CONTENT
    assert server.seen == ["bytes=5000-", None]


def test_a_cut_connection_is_resumed(server, tmp_path):
    server.cuts, server.cut_after = 2, 300_000
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.seen == [None, "bytes=300000-", "bytes=600000-"]


def test_a_cut_connection_leaves_its_bytes_for_the_next_call(server, tmp_path):
    server.cuts, server.cut_after = 1, 300_000
    path = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=rf"ended after 300000 of {len(CONTENT)} bytes; fetch it by hand"):
        get(server, path, retries=0)
    assert not path.exists() and part_of(path).stat().st_size == 300_000
    assert get(server, path).read_bytes() == CONTENT


def test_a_wrong_part_is_dropped_and_fetched_anew(server, tmp_path):
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(b"x" * 5000)
    assert get(server, path).read_bytes() == CONTENT
    assert server.seen == ["bytes=5000-", None]


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=f"md5 {MD5}, published is {'0' * 32}"):
        get(server, path, checksum="0" * 32)
    assert list(tmp_path.iterdir()) == []
    assert len(server.seen) == 1


def test_another_algorithm(server, tmp_path):
    checksum = hashlib.sha256(CONTENT).hexdigest().upper()
    assert get(server, tmp_path / "file.bin", checksum=checksum, algorithm="sha256").exists()


def test_a_missing_file_is_not_asked_for_again(server, tmp_path):
    server.code = 404
    with pytest.raises(DownloadError, match=rf"{server.url}: the server answered 404 .*put it at .*file\.bin"):
        get(server, tmp_path / "file.bin")
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.failures = 2
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT


def test_no_connection(server, tmp_path):
    url = server.url
    server.server_close()
    with pytest.raises(DownloadError, match="no connection"):
        download(url, tmp_path / "file.bin", checksum=MD5, retries=1, backoff=0.01, timeout=1.0)


def test_a_folder_that_can_not_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="can't write"):
        get(server, tmp_path / "file" / "folder" / "file.bin")


def test_address_and_algorithm_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="http and https"):
        download("file:///etc/hostname", tmp_path / "x", checksum=MD5)
    with pytest.raises(ConfigError, match="'crc99'"):
        download("http://127.0.0.1/", tmp_path / "x", checksum=MD5, algorithm="crc99")


def test_where_data_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTADAPT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    assert data_folders("set")[0] == tmp_path / "data" / "set"
    assert tmp_path / "cache" / "set" in data_folders("set")
    assert data_folders("set", tmp_path) == [tmp_path / "set", tmp_path]
    with pytest.raises(DataError, match="does not exist"):
        data_folders("set", tmp_path / "nothing")


def test_cache_folder_without_settings_or_home(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTADAPT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fastadapt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fastadapt"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None
