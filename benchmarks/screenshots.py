"""Take the pictures of the demo's page: docs/images/demo.png and signals.png, and with --all every size and scheme.

    python benchmarks/screenshots.py
    python benchmarks/screenshots.py --all FOLDER     # 360x740 and 1280x800, light and dark, methods compared

Needs Chromium and `pip install playwright`.
"""

import argparse
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Page, sync_playwright

from fastadapt.serve.app import create_app
from fastadapt.serve.served import load_served

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Run the demo's server and give its address."""
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app([load_served("drawing")]), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def opened(browser: Any, address: str, width: int, height: int, scheme: str, scale: float = 1) -> Page:
    """Return the page with its first answer."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale
    )
    page = context.new_page()
    page.goto(address)
    settled(page)
    return page


def turned(page: Page) -> Page:
    """Return the page at its tab of signals, with its first fit."""
    page.locator('.tabs a[href="#signals"]').click()
    while not page.evaluate("Number(document.body.dataset.fits) >= 1"):
        page.wait_for_timeout(50)
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    return page


def settled(page: Page) -> None:
    """Wait until nothing is learned and nothing moves any more."""
    while not page.evaluate("Number(document.body.dataset.renders) >= 1"):
        page.wait_for_timeout(50)
    page.wait_for_timeout(1500)


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="pictures of every size and scheme, into this folder"
    )
    options = parser.parse_args()
    with served() as address, sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        if options.all is None:
            page = opened(browser, address, 1280, 1130, "light")
            page.screenshot(path=IMAGES / "demo.png")
            turned(page).screenshot(path=IMAGES / "signals.png")
        else:
            options.all.mkdir(parents=True, exist_ok=True)
            for width, height in ((1280, 800), (360, 740)):
                for scheme in ("light", "dark"):
                    page = opened(browser, address, width, height, scheme)
                    page.screenshot(path=options.all / f"{width}-{scheme}.png")
                    page.locator("#compare").click()
                    settled(page)
                    page.screenshot(path=options.all / f"{width}-{scheme}-whole.png", full_page=True)
                    turned(page).screenshot(path=options.all / f"{width}-{scheme}-signals.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
