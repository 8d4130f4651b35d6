"""Nothing that was drawn is lost: a reload, an example set, a removed class, a task as a file."""

import json
import zipfile

import pytest

from serve.web.hand import answered, mouse, pad, shares, strokes, until


def names(page):
    return [field.input_value() for field in page.locator("input.name").all()]


def rename(page, old, new):
    field = page.locator(".card", has=pad(page, old)).locator("input.name")
    field.fill(new)
    with answered(page):
        field.press("Enter")


def saved(page, tmp_path):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save the task").click()
    path = tmp_path / "task.zip"
    waiting.value.save_as(path)
    return path


def open_task(page, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a task").click()
    chooser.value.set_files(path)


def test_a_reload_keeps_the_drawings(visit):
    page = visit()
    with answered(page):
        mouse(page, pad(page, "star"), [(0.1, 0.1), (0.4, 0.1)])
    rename(page, "fish", "my fish")
    drawn = strokes(page, pad(page, "star"))
    page.reload()
    until(page, "Number(document.body.dataset.renders) >= 1")
    assert names(page) == ["my fish", "house", "star"]
    assert strokes(page, pad(page, "star")) == drawn
    assert "my fish" in shares(page)


def test_an_example_can_be_taken_back(visit):
    page = visit()
    with answered(page):
        page.get_by_role("button", name="Greek letters").click()
    assert names(page) == ["alpha", "omega", "psi"]
    with answered(page):
        page.locator("#notice").get_by_role("button", name="Undo").click()
    assert names(page) == ["fish", "house", "star"]


@pytest.mark.parametrize(("chosen", "expected"), [("Greek letters", "omega"), ("Smileys", "happy"), ("Shapes", "fish")])
def test_each_example_is_solved(chosen, expected, visit):
    page = visit()
    with answered(page):
        page.get_by_role("button", name=chosen).click()
    assert page.locator("#verdict b").inner_text() == expected


def test_classes_are_moved_renamed_and_removed(visit):
    page = visit()
    card = page.locator(".card", has=pad(page, "house"))
    with answered(page):
        card.locator("summary[aria-label^='More']").click()
        card.get_by_role("button", name="Move earlier").click()
    assert names(page) == ["house", "fish", "star"]
    field = page.locator("input.name").first
    field.fill("star")
    field.press("Enter")
    assert "already" in page.locator(".card .trouble").first.inner_text()
    field.fill("a/b")
    field.press("Enter")
    assert "slashes" in page.locator(".card .trouble").first.inner_text()
    assert names(page) == ["house", "fish", "star"]
    card.locator("summary[aria-label^='More']").click()
    card.get_by_role("button", name="Remove the class").click()
    assert names(page) == ["fish", "star"]
    until(page, "document.querySelector('#teach-trouble').textContent.includes('One more class')")
    assert not page.locator("#verdict").is_visible()
    with answered(page):
        page.locator("#notice").get_by_role("button", name="Undo").click()
    assert names(page) == ["house", "fish", "star"]


def test_an_empty_drawing_is_named_beside_its_class(visit):
    page = visit()
    card = page.locator(".card", has=pad(page, "house"))
    card.get_by_role("button", name="Clear", exact=True).click()
    until(page, "document.querySelectorAll('.card')[1].querySelector('.trouble').textContent.includes('house')")
    assert not card.locator(".meter").is_visible()


def test_a_task_is_saved_and_opened_again(visit, tmp_path):
    page = visit()
    rename(page, "fish", "b: fish")
    path = saved(page, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {"task.json", "b_ fish/1.png", "house/1.png", "star/1.png"} == set(archive.namelist())
        assert json.loads(archive.read("task.json"))["classes"][0]["name"] == "b: fish"
    drawn = strokes(page, pad(page, "house"))
    with answered(page):
        page.get_by_role("button", name="Smileys").click()
    with answered(page):
        open_task(page, path)
    assert names(page) == ["b: fish", "house", "star"]
    assert strokes(page, pad(page, "house")) == drawn


def test_a_zip_of_image_folders_opens_too(visit, tmp_path):
    page = visit()
    path, again = saved(page, tmp_path), tmp_path / "folders.zip"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name.endswith(".png"):
                new.writestr(f"deep/{name}", old.read(name))
    with answered(page):
        open_task(page, again)
        until(page, "document.querySelectorAll('.card').length === 3")
    assert names(page) == ["fish", "house", "star"]


@pytest.mark.parametrize("content", [b"no zip", b"PK\x05\x06" + b"\xff" * 18, b""])
def test_what_is_no_task_is_refused_in_words(content, visit, tmp_path):
    page = visit()
    path = tmp_path / "bad.zip"
    path.write_bytes(content)
    open_task(page, path)
    until(page, "document.querySelector('#take-trouble').textContent.includes('was not opened')")
    assert names(page) == ["fish", "house", "star"]
