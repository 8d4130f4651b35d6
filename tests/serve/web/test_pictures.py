"""What reaches the network: drawings like Omniglot's, uploads turned and cropped, dropped files, the camera."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from serve.web.hand import answered, mouse, pad, until


def sent(page, act):
    """Return the images of the next task, by class, as arrays."""
    with page.expect_request(lambda asked: asked.method == "POST" and asked.url.endswith("/api/tasks")) as waiting:
        act()
    found = {}
    for row in json.loads(waiting.value.post_data)["classes"]:
        content = [base64.b64decode(text.partition(",")[2] or text) for text in row["images"]]
        found[row["name"]] = [np.asarray(Image.open(io.BytesIO(each)).convert("L")) for each in content]
    return found


def upload(page, row, *files):
    card = page.locator(".card", has=pad(page, row))
    card.locator("summary[aria-label^='Add a sample']").click()
    with page.expect_file_chooser() as chooser:
        card.get_by_role("button", name="Upload images").click()
    chooser.value.set_files(files)


def photo(path, size=(400, 300), orientation=1):
    """A dark bar at the left of the picture's middle square, on paper that a shadow crosses."""
    width, height = size
    shade = np.tile(np.linspace(240, 150, width), (height, 1))
    image = Image.fromarray(shade.astype("uint8")).convert("RGB")
    left = (width - height) // 2
    ImageDraw.Draw(image).rectangle((left + 40, 40, left + 60, height - 40), fill=(30, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def test_drawings_are_like_omniglots(visit):
    page = visit()
    images = sent(page, lambda: mouse(page, pad(page, "house"), [(0.5, 0.2), (0.5, 0.4)]))
    assert set(images) == {"fish", "house", "star"}
    for (image,) in images.values():
        assert image.shape == (105, 105)
        assert set(np.unique(image)) == {0, 255}
        rows, columns = np.nonzero(image == 0)
        middle = [(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2]
        np.testing.assert_allclose(middle, 52, atol=2)
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert abs(longest - 105 / 1.9) < 6
        assert 0.01 < (image == 0).mean() < 0.12


def test_a_line_is_three_pixels_wide_wherever_and_however_large_it_is_drawn(visit):
    page = visit()
    for stroke in ([(0.1, 0.1), (0.1, 0.3)], [(0.5, 0.05), (0.5, 0.95)]):
        page.locator(".card", has=pad(page, "house")).get_by_role("button", name="Clear", exact=True).click()
        image = sent(page, lambda stroke=stroke: mouse(page, pad(page, "house"), stroke))["house"][0]
        assert (image[45:60] == 0).sum(1).tolist() == pytest.approx([3] * 15, abs=1)


def test_an_upload_is_turned_cropped_and_made_ink(visit, tmp_path):
    page = visit()
    upright = photo(tmp_path / "upright.jpg")
    images = sent(page, lambda: upload(page, "fish", upright))
    image = images["fish"][1]
    assert image.shape == (105, 105)
    assert set(np.unique(image)) == {0, 255}
    assert (image[50, 10:25] == 0).any() and (image[50, 30:] == 255).all()
    turned = photo(tmp_path / "turned.jpg", orientation=6)
    image = sent(page, lambda: upload(page, "house", turned))["house"][1]
    assert (image[10:25, 50] == 0).any() and (image[30:, 50] == 255).all()  # the bar lies at the top now


def test_a_black_and_white_upload_stays_as_it_is(visit, tmp_path):
    page = visit()
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).line((20, 30, 80, 70), fill=0, width=3)
    image.save(tmp_path / "line.png")
    images = sent(page, lambda: upload(page, "fish", tmp_path / "line.png"))
    np.testing.assert_array_equal(images["fish"][1], np.asarray(image.convert("L")))


def test_files_that_are_no_images_are_named(visit, tmp_path):
    page = visit()
    broken, text = tmp_path / "broken.png", tmp_path / "notes.txt"
    broken.write_bytes(b"\x89PNG nothing")
    text.write_text("notes")
    upload(page, "fish", broken, text)
    until(page, "document.querySelector('.card .trouble').textContent.includes('notes.txt')")
    assert "broken.png" in page.locator(".card .trouble").first.inner_text()
    assert page.locator(".card").first.locator(".thumb").count() == 0


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(kind, visit, tmp_path):
    page = visit()
    content = base64.b64encode(photo(tmp_path / "a.png").read_bytes()).decode()
    target = page.locator(".card").nth(1) if kind == "drop" else page.locator(".card").nth(1).locator("canvas")
    with answered(page):
        target.evaluate(
            """(node, [kind, content]) => {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], "a.png", {type: "image/png"}));
                node.focus();
                const options = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
                const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
                node.dispatchEvent(new Kind(kind, options));
            }""",
            [kind, content],
        )
    assert page.locator(".card").nth(1).locator(".thumb").count() == 2


@pytest.mark.long
def test_the_camera_counts_down_takes_a_burst_and_stops(visit):
    page = visit(permissions=["camera"])
    card = page.locator(".card").first
    card.locator("summary[aria-label^='Add a sample']").click()
    card.get_by_role("button", name="Camera").click()
    until(page, "document.querySelector('#camera-view')?.videoWidth > 0")
    with answered(page):
        page.get_by_role("button", name="Take pictures").click()
        until(page, "document.querySelector('#camera-count').textContent === '2'")
        until(page, "document.querySelector('#camera-words')?.textContent.includes('pictures added')")
        page.evaluate("window.kept = document.querySelector('#camera-view').srcObject.getTracks()[0]")
        page.get_by_role("button", name="Stop").click()
    assert page.evaluate("window.kept.readyState") == "ended"
    assert card.locator(".thumb").count() == 6


def burst(page):
    page.get_by_role("button", name="Take pictures").click()
    until(page, "/added|full/.test(document.querySelector('#camera-words').textContent)")
    return page.locator("#camera-words").inner_text()


@pytest.mark.parametrize("empty", [False, True])
def test_bursts_fill_a_class_and_not_more(empty, visit):
    page = visit(permissions=["camera"])
    card = page.locator(".card").first
    if empty:
        card.get_by_role("button", name="Clear", exact=True).click()
    card.locator("summary[aria-label^='Add a sample']").click()
    card.get_by_role("button", name="Camera").click()
    until(page, "document.querySelector('#camera-view')?.videoWidth > 0")
    with answered(page):
        assert "5 pictures" in burst(page)
        assert "full" in burst(page)
        page.get_by_role("button", name="Stop").click()
    assert card.locator(".thumb").count() == 10
    assert page.locator(".card .trouble").first.inner_text() == ""


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_camera_that_starts_late_is_stopped(order, visit):
    page = visit()
    page.evaluate(
        """() => {
            window.answers = [];
            window.tracks = [];
            navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => {
                const picture = document.createElement("canvas");
                picture.getContext("2d").fillRect(0, 0, 9, 9);
                const stream = picture.captureStream(5);
                window.tracks.push(...stream.getTracks());
                window.answers.push(() => resolve(stream));
            });
        }"""
    )
    page.locator("#ask").get_by_role("button", name="Ask with the camera").click()
    until(page, "window.answers.length === 1")
    page.get_by_role("button", name="Other camera").click()
    until(page, "window.answers.length === 2")
    for place in order:
        page.evaluate("place => window.answers[place]()", place)
        page.wait_for_timeout(100)
    states = "window.tracks.map((track) => track.readyState)"
    assert page.evaluate(states) == ["ended", "live"]
    page.get_by_role("button", name="Stop").click()
    until(page, f"{states}.every((state) => state === 'ended')")  # a dialog tells that it was closed a moment later


def test_the_other_camera_and_a_refusal(visit):
    page = visit()
    page.evaluate(
        """() => {
            window.wanted = [];
            navigator.mediaDevices.getUserMedia = async (asked) => {
                window.wanted.push(asked.video.facingMode);
                throw new DOMException("no", "NotAllowedError");
            };
        }"""
    )
    page.locator("#ask").get_by_role("button", name="Ask with the camera").click()
    until(page, "document.querySelector('#camera-words')?.textContent.includes('not allowed')")
    page.get_by_role("button", name="Other camera").click()
    until(page, "window.wanted.length === 2")
    assert page.evaluate("window.wanted") == ["environment", "user"]
