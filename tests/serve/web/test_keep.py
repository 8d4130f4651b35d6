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


def undo_notice(page):
    page.locator("#notice").get_by_role("button", name="Undo").press("Enter")


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


def another_tab(page):
    """Open the page in another tab of the same browser."""
    other = page.context.new_page()
    other.goto(page.url)
    until(other, "Number(document.body.dataset.renders) >= 1")
    return other


def test_two_tabs_keep_their_own_drawings(visit):
    page = visit()
    rename(page, "fish", "first")
    other = another_tab(page)
    assert names(other) == ["first", "house", "star"]  # a new tab begins with the newest copy
    rename(other, "first", "second")
    rename(page, "house", "hut")
    rename(other, "star", "sun")
    for tab, expected in ((page, ["first", "hut", "star"]), (other, ["second", "house", "sun"])):
        tab.reload()
        until(tab, "Number(document.body.dataset.renders) >= 1")
        assert names(tab) == expected


def test_a_duplicated_tab_parts_from_its_original(visit):
    page = visit()
    rename(page, "fish", "first")
    stored = page.evaluate("JSON.stringify(sessionStorage)")  # which the browser copies, as it does the address
    page.context.add_init_script(f"if (!sessionStorage.length) Object.assign(sessionStorage, {stored});")
    other = another_tab(page)
    assert names(other) == ["first", "house", "star"]
    rename(other, "first", "second")
    page.reload()
    until(page, "Number(document.body.dataset.renders) >= 1")
    assert names(page) == ["first", "house", "star"]


def test_the_drawings_of_a_hundred_tabs_do_not_pile_up(visit):
    page = visit()
    rename(page, "fish", "mine")
    fill = """async () => {
        const result = (asked) => new Promise((done) => (asked.onsuccess = () => done(asked.result)));
        const base = await result(indexedDB.open("fastadapt", 1));
        const table = () => base.transaction("tasks", "readwrite").objectStore("tasks");
        for (let saved = 1; saved <= 100; saved += 1) table().put({version: 1, classes: [{}], saved}, `old ${saved}`);
        const count = await result(table().count());
        base.close();
        return count;
    }"""
    assert page.evaluate(fill) == 101
    page.reload()
    until(page, "Number(document.body.dataset.renders) >= 1")
    assert names(page) == ["mine", "house", "star"]
    assert page.evaluate(fill.replace("100", "0")) == 20


def test_what_the_browser_takes_back_is_not_called_kept(visit):
    page = visit()
    opened = """() => {
        const put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = function (...args) {
            const request = put.apply(this, args);
            request.addEventListener("success", () => this.transaction.abort()); // as when the disk is full
            return request;
        };
        window.open = 0;
        for (const [kind, name, by] of [[IDBFactory, "open", 1], [IDBDatabase, "close", -1]]) {
            const usual = kind.prototype[name];
            kind.prototype[name] = function (...args) {
                window.open += by;
                return usual.apply(this, args);
            };
        }
    }"""
    page.evaluate(opened)
    with answered(page):
        mouse(page, pad(page, "star"), [(0.1, 0.1), (0.4, 0.1)])
    until(
        page, "document.querySelector('#about-browser').textContent.includes('does not let the page keep')", seconds=5
    )
    assert page.evaluate("window.open") == 0


def test_an_example_can_be_taken_back(visit):
    page = visit()
    with answered(page):
        page.get_by_role("button", name="Greek letters").click()
    assert names(page) == ["alpha", "omega", "psi"]
    with answered(page):
        page.locator("#notice").get_by_role("button", name="Undo").click()
    assert names(page) == ["fish", "house", "star"]


def test_undoing_an_example_and_redoing_it_lose_no_stroke(visit):
    page = visit()
    with answered(page):
        mouse(page, pad(page, "star"), [(0.1, 0.1), (0.4, 0.1)])
    mine = strokes(page, pad(page, "star"))
    with answered(page):
        page.get_by_role("button", name="Greek letters").click()
    with answered(page):
        mouse(page, pad(page, "psi"), [(0.1, 0.9), (0.4, 0.9)])
    example = strokes(page, pad(page, "psi"))
    with answered(page):
        undo_notice(page)
    assert strokes(page, pad(page, "star")) == mine
    card = page.locator(".card", has=pad(page, "star"))
    with answered(page):
        card.get_by_role("button", name="Undo").click()  # the stroke's own history is there too
    assert strokes(page, pad(page, "star")) < mine
    with answered(page):
        undo_notice(page)
    assert names(page) == ["alpha", "omega", "psi"]
    assert strokes(page, pad(page, "psi")) == example


def remove(page, what):
    """Remove a class, a drawing or a question, by keys."""
    if what == "question":
        page.get_by_role("button", name="Remove this question").press("Enter")
        return
    card = page.locator(".card", has=pad(page, "house"))
    card.locator("summary[aria-label^='More']").press("Enter")
    card.get_by_role("button", name="Remove the class" if what == "class" else "Remove this drawing").press("Enter")


@pytest.mark.parametrize("what", ["class", "drawing", "question"])
def test_undoing_a_removal_keeps_what_was_edited_since(what, visit):
    page = visit()
    removed = page.locator("#question") if what == "question" else pad(page, "house")
    with answered(page):
        mouse(page, removed, [(0.1, 0.9), (0.2, 0.9)])
    if what == "question":
        with answered(page):
            page.get_by_role("button", name="Ask another question").click()
            mouse(page, removed, [(0.1, 0.1), (0.3, 0.1)])
    before = strokes(page, removed)
    remove(page, what)
    assert page.evaluate("document.activeElement !== document.body")
    with answered(page):
        page.get_by_role("button", name="Add a class").click()
        mouse(page, page.locator(".card").last.locator("canvas"), [(0.2, 0.2), (0.8, 0.8)])
        mouse(page, pad(page, "fish"), [(0.1, 0.1), (0.4, 0.1)])
    edited = strokes(page, pad(page, "fish"))
    with answered(page):
        undo_notice(page)
    assert page.evaluate("document.activeElement !== document.body")
    assert strokes(page, pad(page, "fish")) == edited
    assert page.locator(".card").count() == 4
    assert strokes(page, removed) == before
    tools = page.locator("#ask") if what == "question" else page.locator(".card", has=removed)
    with answered(page):
        tools.get_by_role("button", name="Undo", exact=True).click()
    assert strokes(page, removed) < before


def test_a_class_comes_back_under_another_name_when_its_own_is_taken(visit):
    page = visit()
    remove(page, "class")
    until(page, "document.querySelectorAll('.card').length === 2")
    page.get_by_role("button", name="Add a class").click()
    until(page, "document.querySelectorAll('.card').length === 3")
    page.locator("input.name").last.fill("house")
    page.locator("input.name").last.press("Enter")
    undo_notice(page)
    until(page, "document.querySelectorAll('.card').length === 4")
    assert names(page) == ["fish", "house 2", "star", "house"]


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
