"""A real server, a real browser, and a page that may not complain. Skipped where Chromium or Playwright is missing."""

import contextlib
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from serve.web.hand import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


# A browser takes seconds for what others do in a millisecond, so most of these are run on demand: make test-browser.
EVERY_TIME = (
    "test_it_opens_solved_with_a_live_result",
    "test_by_mouse",
    "test_by_finger_on_a_phone",
    "test_by_keys_alone",
    "test_five_quick_strokes_are_rendered_once",
    "test_an_answer_to_an_older_question_is_dropped",
    "test_a_reload_keeps_the_drawings",
    "test_it_is_small_and_painted_within_a_second",
    "test_the_model_answers_as_the_page",
    "test_the_camera_counts_down_takes_a_burst_and_stops",
    "test_axe_finds_nothing[(360, 740)-dark]",
    "test_signals_by_mouse",
    "test_axe_finds_nothing_in_signals[(360, 740)-dark]",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.name not in EVERY_TIME:
            item.add_marker(pytest.mark.slow)


class Running:
    """A server in a thread, which can be stopped and started again on the same port."""

    def __init__(self, **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.start()

    def start(self):
        uvicorn = pytest.importorskip("uvicorn")
        from fastadapt.serve.app import create_app
        from fastadapt.serve.limits import Limits
        from fastadapt.serve.served import load_served

        # a minute for each job: a busy machine is no failure
        app = create_app([load_served("drawing")], limits=Limits(seconds=60), **self.options)
        here = {"host": "127.0.0.1", "port": self.port}
        self.server = uvicorn.Server(uvicorn.Config(app, **here, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        for _ in range(600):
            if self.server.started:
                return
            time.sleep(0.05)
        raise TimeoutError("the server did not start")

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="session")
def server():
    running = Running()
    yield running
    running.stop()


@pytest.fixture
def own_server():
    """Give a function that starts a server for one test."""
    started = []

    def start(**options):
        started.append(Running(**options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as runner:
        chromium = runner.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, request):
    """Give a function that opens the page and waits for its first answer; the page may log no error."""
    contexts, complaints, forgiven = [], [], []

    def go(width=1280, height=800, url=None, wait=True, **options):
        url = url or request.getfixturevalue("server").url
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        if wait:
            until(page, "Number(document.body.dataset.renders) >= 1")
        return page

    go.forgive = forgiven.append
    yield go
    for context in contexts:
        with contextlib.suppress(Exception):
            context.close()
    assert [text for text in complaints if not any(part in text for part in forgiven)] == []
