"""What a visitor does: draw by mouse, by finger and by keys, and read the answer."""

import contextlib
import itertools
import time

FISH = [
    *[(0.75, 0.5), (0.5, 0.33), (0.2, 0.45), (0.16, 0.52), (0.3, 0.64), (0.55, 0.66)],
    *[(0.75, 0.5), (0.9, 0.36), (0.88, 0.66), (0.75, 0.5)],
]
HOUSE = [(0.2, 0.85), (0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.85), (0.2, 0.85)]
CROSS = ([(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)])
RING = [
    *[(0.5, 0.2), (0.72, 0.28), (0.8, 0.5), (0.72, 0.72)],
    *[(0.5, 0.8), (0.28, 0.72), (0.2, 0.5), (0.28, 0.28), (0.5, 0.2)],
]
TREE = ([(0.5, 0.1), (0.5, 0.9)], [(0.5, 0.4), (0.2, 0.2)], [(0.5, 0.4), (0.8, 0.2)], [(0.5, 0.6), (0.25, 0.5)])


def pad(page, name):
    """Return the canvas of a class, or of the question."""
    if name == "question":
        return page.locator("#question")
    return page.locator(f'canvas[aria-label^="Draw {name}."]')


def _places(canvas, stroke):
    box = canvas.bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def mouse(page, canvas, *strokes):
    canvas.scroll_into_view_if_needed()
    for stroke in strokes:
        first, *rest = _places(canvas, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for place in rest:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


def finger(page, canvas, *strokes):
    canvas.scroll_into_view_if_needed()
    devtools = page.context.new_cdp_session(page)

    def send(kind, *places):
        points = [{"x": x, "y": y} for x, y in places]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for stroke in strokes:
        places = _places(canvas, stroke)
        send("touchStart", places[0])
        for (ax, ay), (bx, by) in itertools.pairwise(places):
            for k in range(1, 5):
                send("touchMove", (ax + (bx - ax) * k / 4, ay + (by - ay) * k / 4))
        send("touchEnd")
    devtools.detach()


def strokes(page, canvas):
    """Return how many pixels of the canvas have ink."""
    return canvas.evaluate(
        """c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data
            .filter((value, place) => place % 4 === 3 && value > 128).length"""
    )


def renders(page):
    return int(page.evaluate("document.body.dataset.renders ?? 0"))


@contextlib.contextmanager
def answered(page):
    """Wait at the end for the result of what was done inside."""
    before = renders(page)
    yield
    until(page, "n => Number(document.body.dataset.renders) > n", arg=before)
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


def answer(page):
    """Return the class that the page names."""
    return page.locator("#verdict b").inner_text()


def shares(page):
    """Return the percentage under each class, as text, by name."""
    cards = page.locator(".card").all()
    return {card.locator("input.name").input_value(): card.locator(".share").inner_text() for card in cards}


def new_class(page, name):
    count = page.locator(".card").count()
    page.locator("#add-class").click()
    page.locator(".card").nth(count).wait_for()
    field = page.locator(".card").last.locator("input.name")
    field.fill(name)
    field.press("Enter")
    return page.locator(".card").last.locator("canvas")


def until(page, condition, arg=None, seconds=60):
    """Wait until an expression is true. Playwright's own way of waiting needs `eval`, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} seconds: {condition}")
        page.wait_for_timeout(15)
