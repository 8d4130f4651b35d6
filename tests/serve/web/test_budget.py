"""The page is small and quick, and asks nobody but its own server."""

import time

from serve.web.hand import until


def test_it_is_small_and_painted_within_a_second(visit, server):
    page = visit()
    painted, files = page.evaluate(
        """() => [performance.getEntriesByName('first-contentful-paint')[0].startTime,
            [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
                .map((entry) => [entry.name, entry.encodedBodySize])]"""
    )
    assert all(url.startswith((server.url, "data:", "blob:")) for url, _ in files)
    assert 10_000 < sum(size for url, size in files if "/api/" not in url and url.startswith("http")) < 100 * 1024
    assert painted < 1000


def test_the_answer_follows_the_stroke(visit):
    page = visit()
    box = page.locator("#question").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 30, steps=3)
    started = time.perf_counter()
    page.mouse.up()
    until(page, "Number(document.body.dataset.renders) >= 2")
    assert time.perf_counter() - started < 3  # 0.24 s of it waits for another stroke
