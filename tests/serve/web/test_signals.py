"""The tab "Signals": both fits side by side, by mouse, by finger and by keys; files, drops, the microphone, trouble."""

import base64
import io

import pytest
from PIL import Image

from fastadapt.showcases.scene import scene
from serve.web.hand import until
from serve.web.test_access import RULES, SIZES, SMALLEST, violations
from signals.waves import tone, wav

NEAR = "name => parseFloat(document.querySelector(`#fit-${name} .near`).textContent)"


def fitted(page, times=1):
    """Wait until so many fits are complete."""
    until(page, "n => Number(document.body.dataset.fits ?? 0) >= n", arg=times)
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


def signals(visit, server, width=1280, height=800, **options):
    page = visit(width, height, url=f"{server.url}/#signals", wait=False, **options)
    fitted(page)
    return page


def pixels(page, name):
    """Return what is drawn of a fit."""
    return page.locator(f"#fit-{name} canvas").evaluate("canvas => canvas.toDataURL()")


def step(page):
    return int(page.locator("#signal-step").input_value())


def photo(path, size=(300, 200)):
    Image.fromarray(scene(256)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(size).save(path)
    return path


def choose(page, path):
    with page.expect_file_chooser() as chooser:
        page.locator("#signal-file").click()
    chooser.value.set_files([path])


def drop(page, content, name, kind):
    page.evaluate(
        """([text, name, type]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, {type}));
            const about = {bubbles: true, cancelable: true, dataTransfer: data};
            document.querySelector("#become").dispatchEvent(new DragEvent("dragover", about));
            document.querySelector("#become").dispatchEvent(new DragEvent("drop", about));
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )


@pytest.mark.long
def test_signals_by_mouse(visit, server, tmp_path):
    page = visit()
    page.get_by_role("link", name="Signals").click()
    fitted(page)
    assert step(page) == 2 and "After 2 steps" in page.locator("#signal-story").inner_text()
    assert page.evaluate(NEAR, "learned") > page.evaluate(NEAR, "random")
    house = pixels(page, "learned")
    choose(page, photo(tmp_path / "mine.png"))
    fitted(page, 2)
    assert page.locator("#signal-name").inner_text() == "mine.png" and pixels(page, "learned") != house
    second, near = pixels(page, "learned"), page.evaluate(NEAR, "learned")
    page.locator("#signal-step").scroll_into_view_if_needed()
    box = page.locator("#signal-step").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    until(page, "document.querySelector('#signal-now').textContent === 'step 20 of 20'")
    assert pixels(page, "learned") != second and page.evaluate(NEAR, "learned") > near
    chart = page.locator("#signal-chart")
    chart.click(position={"x": 40, "y": 60})
    until(page, "document.querySelector('#signal-step').value === '0'")
    page.locator("#signal-play").click()
    until(page, "document.querySelector('#signal-step').value === '20'")
    page.locator("#signal-steps").select_option("5")
    fitted(page, 3)
    assert page.locator("#signal-now").inner_text() == "step 2 of 5"
    page.get_by_role("link", name="Drawings").click()
    assert page.locator("#verdict b").inner_text() == "fish"  # it is as it was left
    assert page.locator("#signals").is_hidden() and page.title().startswith("Draw")
    page.go_back()
    assert page.locator("#drawings").is_hidden() and page.locator("#signal-name").inner_text() == "mine.png"


def test_signals_by_finger(visit, server):
    page = visit(360, 740, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.get_by_role("link", name="Signals").tap()
    fitted(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [page.locator(f"#fit-{name} canvas").bounding_box() for name in ("learned", "random")]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]  # side by side
    page.get_by_role("button", name="A voice").tap()
    fitted(page, 2)
    assert step(page) == 3 and page.evaluate(NEAR, "learned") > page.evaluate(NEAR, "random") + 2
    hear = page.locator("#fit-learned").get_by_role("button")
    assert hear.get_attribute("aria-label") == "Listen to what came of the learned start"
    hear.tap()
    until(page, "document.querySelector('#fit-learned button').textContent === 'Stop'")
    until(page, "document.querySelector('#fit-learned button').textContent === 'Listen'")  # it is over
    page.locator("#signal-step").scroll_into_view_if_needed()
    slider = page.locator("#signal-step").bounding_box()
    page.touchscreen.tap(slider["x"] + 3, slider["y"] + slider["height"] / 2)
    until(page, "document.querySelector('#signal-step').value === '0'")


def test_signals_by_keys(visit, server):
    page = visit()

    def tab_to(selector, key="Tab"):
        for _ in range(80):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press(key)
        pytest.fail(f"{selector} is not reached by Tab")

    tab_to(".tabs a[href='#signals']")
    page.keyboard.press("Enter")
    fitted(page)
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    wanted = {"signal-file", "signal-record", "House by a lake", "A voice", "signal-play", "signal-step"}
    assert wanted | {"signal-steps", "signal-side"} <= reached
    tab_to("#signal-step", "Shift+Tab")
    page.keyboard.press("End")
    until(page, "document.querySelector('#signal-now').textContent === 'step 20 of 20'")
    assert "learned" in page.locator("#signal-step").get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    until(page, "document.querySelector('#signal-story').textContent.startsWith('Before the first step')")
    tab_to("#signal-examples button:last-child", "Shift+Tab")
    page.keyboard.press("Enter")
    fitted(page, 2)
    assert page.locator("#become").get_attribute("data-kind") == "sound"
    assert "After 3 steps" in page.locator("#summary").text_content()  # what a screen reader is told


def test_dropped_files_of_both_kinds_and_of_none(visit, server, tmp_path):
    page = signals(visit, server)
    drop(page, photo(tmp_path / "a.jpg").read_bytes(), "a.jpg", "image/jpeg")
    fitted(page, 2)
    assert page.locator("#signal-name").inner_text() == "a.jpg"
    drop(page, wav(tone(0.5, 44_100, 200), 44_100), "song.wav", "audio/wav")
    fitted(page, 3)
    assert page.locator("#signal-name").inner_text() == "song.wav"
    assert page.locator("#become").get_attribute("data-kind") == "sound"
    drop(page, b"hello", "notes.txt", "text/plain")
    until(page, "document.querySelector('#choose-trouble').textContent !== ''")
    assert "“notes.txt” is neither a picture nor a sound" in page.locator("#choose-trouble").inner_text()
    assert page.locator("#signal-name").inner_text() == "song.wav"  # what was there stays
    page.locator("#signal-seconds").select_option("0.5")
    fitted(page, 4)
    content = io.BytesIO()
    Image.new("RGB", (5, 5)).save(content, "PNG")
    visit.forgive("400")
    drop(page, content.getvalue(), "tiny.png", "image/png")
    until(page, "document.querySelector('#signal-story').textContent.includes('5x5 pixels')")
    page.get_by_role("link", name="Drawings").click()
    page.get_by_role("link", name="Signals").click()
    assert page.locator(".thumb").count() == 0  # no drop reached the drawings


def test_a_recording_is_fitted_and_a_missing_microphone_is_told(visit, server):
    page = signals(visit, server, permissions=["microphone"])
    page.locator("#signal-record").click()
    until(page, "document.querySelector('#record-name').textContent === 'Recording; press to stop'")
    fitted(page, 2)
    assert page.locator("#signal-name").inner_text() == "your recording"
    assert page.locator("#record-name").inner_text() == "Record a sound"
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError') } }"
    )
    page.locator("#signal-record").click()
    until(page, "document.querySelector('#choose-trouble').textContent.includes('No microphone was found')")


def test_only_the_newest_choice_is_fitted(visit, server):
    page = signals(visit, server)
    for name in ("A voice", "House by a lake", "A voice", "House by a lake"):
        page.get_by_role("button", name=name).click()
    fitted(page, 2)
    page.wait_for_timeout(800)
    assert page.evaluate("document.body.dataset.fits") == "2"
    assert page.locator("#become").get_attribute("data-kind") == "photo"


def test_a_server_that_goes_away_and_comes_back(visit, server):
    visit.forgive("Failed to load")
    page = signals(visit, server)
    page.route("**/api/fit", lambda route: route.abort())
    page.get_by_role("button", name="A voice").click()
    until(page, "document.querySelector('#link').dataset.link === 'offline'")
    until(page, "document.querySelector('#signal-story').textContent.includes('be reached')")
    page.unroute("**/api/fit")
    fitted(page, 2)
    assert page.locator("#link").get_attribute("data-link") == "ready"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.long
def test_axe_finds_nothing_in_signals(size, scheme, visit, server):
    assert RULES
    page = signals(visit, server, *size, color_scheme=scheme)
    assert violations(page) == []
    page.get_by_role("button", name="A voice").click()
    fitted(page, 2)
    assert violations(page) == []
    drop(page, b"hello", "notes.txt", "text/plain")
    until(page, "document.querySelector('#choose-trouble').textContent !== ''")
    assert violations(page) == []


@pytest.mark.parametrize("size", [*SIZES, (320, 640), (640, 400)], ids=str)
def test_targets_of_signals_are_large_and_nothing_is_cut_off(size, visit, server):
    page = signals(visit, server, *size)
    page.get_by_role("button", name="A voice").click()
    fitted(page, 2)
    small = page.evaluate(
        """(least) => [...document.querySelectorAll('button, select, input, a')]
            .map((node) => [node, node.getBoundingClientRect()])
            .filter(([node, box]) => box.width && !node.matches('.skip') && (box.width < least || box.height < least))
            .map(([node, box]) => `${node.outerHTML.slice(0, 80)} ${box.width}x${box.height}`)""",
        SMALLEST,
    )
    assert small == [] and page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_signals_ask_nobody_else_and_stay_small(visit, server):
    page = signals(visit, server)
    files = page.evaluate(
        """() => [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
            .map((entry) => [entry.name, entry.encodedBodySize])"""
    )
    assert all(url.startswith((server.url, "data:", "blob:")) for url, _ in files)
    assert sum(size for url, size in files if "/api/" not in url and url.startswith("http")) < 100 * 1024
