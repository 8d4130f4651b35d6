"""The whole story, from the solved opening to another class: by mouse, by finger on a phone, and by keys alone."""

import pytest

from serve.web import hand
from serve.web.hand import answer, answered, finger, mouse, new_class, pad, shares, strokes, until


def test_it_opens_solved_with_a_live_result(visit):
    page = visit()
    assert answer(page) == "fish"
    assert set(shares(page)) == {"fish", "house", "star"}
    assert "before" in page.locator("#bars").inner_text()
    assert page.locator("#closest-name").inner_text().endswith("drawing 1")
    assert "fish" in page.locator("#summary").inner_text()  # what a screen reader is told


def test_the_foot_of_the_page_says_what_is_true_of_this_model(visit, server):
    page = visit()
    foot = page.locator("footer")
    assert "pen strokes" in foot.inner_text()
    assert f"computed by the server at {server.url.removeprefix('http://')};" in foot.inner_text()
    assert "30 minutes after the last use" in foot.inner_text()

    def photographs(route):
        answer = route.fetch()
        said = answer.json()
        said["models"][0]["trained_on"] = "mini-ImageNet: photographs of 64 classes"
        said["models"][0]["accuracy"] = [{"ways": 5, "shots": 1, "mean": 0.5, "ci95": 0.01}]
        route.fulfill(response=answer, json=said)

    page.route("**/api/models", photographs)
    page.reload()
    until(page, "Number(document.body.dataset.renders) >= 1")
    assert "5 classes and 1 picture each" in foot.inner_text()
    assert [word for word in ("characters", "pen strokes") if word in foot.inner_text()] == []


def test_first_interaction_adds_and_never_erases(visit):
    page = visit()
    canvas = pad(page, "fish")
    before = strokes(page, canvas)
    with answered(page):
        mouse(page, canvas, [(0.1, 0.1), (0.3, 0.1)])
    assert strokes(page, canvas) > before


def test_by_mouse(visit):
    page = visit()
    for row, drawing in (("fish", [hand.FISH]), ("house", [hand.HOUSE]), ("star", hand.CROSS)):
        with answered(page):
            page.locator(".card", has=pad(page, row)).get_by_role("button", name="Clear", exact=True).click()
            mouse(page, pad(page, row), *drawing)
    with answered(page):
        page.locator("#ask").get_by_role("button", name="Clear").click()
        mouse(page, page.locator("#question"), *hand.CROSS)
    assert answer(page) == "star"
    with answered(page):
        mouse(page, new_class(page, "tree"), *hand.TREE)
    assert set(shares(page)) == {"fish", "house", "star", "tree"}
    with answered(page):
        page.get_by_role("button", name="Ask another question").click()
        mouse(page, page.locator("#question"), *hand.TREE)
    assert answer(page) == "tree"
    assert page.locator(".question").count() == 2
    page.get_by_role("button", name="Question 1").click()
    until(page, "document.querySelector('#verdict b').textContent === 'star'")


@pytest.mark.long
def test_by_finger_on_a_phone(visit):
    page = visit(360, 740, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#question").bounding_box()
    assert box["y"] + box["height"] <= 740  # the question is in sight at the top of the page
    with answered(page):
        page.locator(".card", has=pad(page, "house")).get_by_role("button", name="Clear", exact=True).tap()
        finger(page, pad(page, "house"), hand.RING)
    page.locator("#wider").tap()
    with answered(page):
        page.locator("#ask").get_by_role("button", name="Clear").tap()
        finger(page, page.locator("#question"), hand.RING)
    assert answer(page) == "house"
    page.locator("#wider").tap()
    scrolled = page.evaluate("scrollY")
    finger(page, pad(page, "fish"), [(0.5, 0.9), (0.5, 0.1)])
    assert page.evaluate("scrollY") == scrolled or pad(page, "fish").is_visible()  # a canvas does not scroll the page
    assert page.evaluate("getComputedStyle(document.querySelector('.lede')).touchAction") == "auto"


def test_a_second_finger_does_not_disturb_the_stroke(visit):
    page = visit(360, 740, has_touch=True, is_mobile=True)
    devtools = page.context.new_cdp_session(page)
    canvas = pad(page, "fish")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def touch(kind, *points):
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": i} for i, x, y in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    with answered(page):
        touch("touchStart", (0, 0.1, 0.9))
        touch("touchMove", (0, 0.3, 0.9))
        touch("touchStart", (0, 0.3, 0.9), (1, 0.9, 0.1))
        touch("touchMove", (0, 0.5, 0.9), (1, 0.9, 0.5))
        touch("touchEnd")
    page.locator(".card", has=canvas).get_by_role("button", name="Undo").tap()
    undo = ".card button[aria-label=Undo]"
    until(page, f"document.querySelector('{undo}').ariaDisabled === 'true'")  # there was one stroke


@pytest.mark.parametrize("way", ["look", "fill"])
def test_a_stroke_stays_on_the_drawing_it_was_begun_on(way, visit):
    page = visit()
    card = page.locator(".card").first
    canvas = pad(page, "fish")
    card.locator("summary[aria-label^='Add a sample']").click()
    card.get_by_role("button", name="New drawing").click()
    until(page, "document.querySelectorAll('.card .thumb').length === 2")
    if way == "look":  # the pen is on the first drawing while the second is chosen, as by another finger
        card.locator(".thumb").first.click()
        until(page, "document.querySelector('.card canvas').dataset.empty === 'false'")
    before = strokes(page, canvas)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 20, steps=4)
    with answered(page):
        if way == "look":
            card.locator(".thumb").last.evaluate("thumb => thumb.click()")
            until(page, "document.querySelector('.card canvas').dataset.empty === 'true'")
        else:  # the pen is on an empty drawing while a picture arrives
            canvas.evaluate(
                """async (node) => {
                    const picture = Object.assign(document.createElement("canvas"), {width: 105, height: 105});
                    picture.getContext("2d").fillRect(50, 50, 20, 20);
                    const content = await new Promise((done) => picture.toBlob(done));
                    const data = new DataTransfer();
                    data.items.add(new File([content], "a.png", {type: "image/png"}));
                    node.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
                }"""
            )
            until(page, "document.querySelector('#link').dataset.link === 'learning'")
            page.wait_for_timeout(300)
        page.mouse.up()
    if way == "look":
        card.locator(".thumb").first.click()
        until(page, "document.querySelector('.card canvas').dataset.empty === 'false'")
    assert card.locator(".thumb").count() == 2
    whole = canvas.evaluate("canvas => canvas.toDataURL()")
    assert way == "fill" or strokes(page, canvas) > before
    with answered(page):
        card.get_by_role("button", name="Undo", exact=True).click()
    assert canvas.evaluate("canvas => canvas.toDataURL()") != whole


def test_what_is_removed_leaves_the_memory(visit):
    page = visit()
    devtools = page.context.new_cdp_session(page)

    def live(kind, use="return this.length;"):
        devtools.send("HeapProfiler.collectGarbage")
        expression = f"import('/static/{kind.lower()}.js').then((module) => module.{kind}.prototype)"
        found = devtools.send("Runtime.evaluate", {"expression": expression, "awaitPromise": True})["result"]
        objects = devtools.send("Runtime.queryObjects", {"prototypeObjectId": found["objectId"]})["objects"]
        call = {"objectId": objects["objectId"], "functionDeclaration": f"function() {{ {use} }}"}
        value = devtools.send("Runtime.callFunctionOn", call)["result"].get("value")
        devtools.send("Runtime.releaseObject", {"objectId": objects["objectId"]})
        return value

    with answered(page):
        mouse(page, pad(page, "fish"), [(0.1, 0.1), (0.3, 0.1)])
    live("Task", "globalThis.drawn = new WeakRef(this[0].classes[0].samples[0].strokes);")
    with answered(page):
        mouse(page, pad(page, "fish"), [(0.1, 0.2), (0.3, 0.2)])
    assert live("Pad") == 4
    for _ in range(3):
        for name in ("Greek letters", "Smileys"):
            with answered(page):
                page.get_by_role("button", name=name).click()
    assert live("Pad") <= 7  # those of the page, and a frame's worth that the browser still holds
    assert page.evaluate("globalThis.drawn.deref() === undefined")  # nor does a history hold it


@pytest.mark.long
def test_by_keys_alone(visit):
    page = visit()

    def tab_to(selector):
        for _ in range(80):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{selector} is not reached by Tab")

    tab_to('canvas[aria-label^="Draw house."]')
    with answered(page):
        page.keyboard.press("Delete")
        page.keyboard.press("Space")
        for key in ["ArrowRight"] * 6 + ["ArrowDown"] * 6 + ["ArrowLeft"] * 6 + ["ArrowUp"] * 6:
            page.keyboard.press(key)
        page.keyboard.press("Space")
    house = strokes(page, pad(page, "house"))
    assert house > 0
    page.keyboard.press("Control+z")
    with answered(page):
        page.keyboard.press("Control+y")
    assert strokes(page, pad(page, "house")) >= house * 0.9
    page.keyboard.press("Tab")
    tab_to("#question")
    with answered(page):
        page.keyboard.press("Delete")
        page.keyboard.press("Space")
        for key in ["ArrowRight"] * 7 + ["ArrowDown"] * 7 + ["ArrowLeft"] * 7 + ["ArrowUp"] * 7:
            page.keyboard.press(key)
        page.keyboard.press("Space")
    assert answer(page) == "house"
    tab_to("#play")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    until(page, "document.querySelector('#step').getAttribute('aria-valuetext').startsWith('step 0 of')")


def test_eraser_undo_and_redo(visit):
    page = visit()
    canvas, card = pad(page, "house"), page.locator(".card", has=pad(page, "house"))
    whole = strokes(page, canvas)
    card.get_by_role("button", name="Eraser").click()
    with answered(page):
        mouse(page, canvas, [(0.1, 0.5), (0.9, 0.5)])
    rubbed = strokes(page, canvas)
    assert 0 < rubbed < whole
    with answered(page):
        card.get_by_role("button", name="Undo").click()
    assert strokes(page, canvas) == whole
    with answered(page):
        card.get_by_role("button", name="Redo").click()
    assert strokes(page, canvas) == rubbed
