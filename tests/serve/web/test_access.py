"""Everybody can use it: axe finds nothing in any state, targets are large, it holds at 320 pixels and at 200 % zoom."""

import pytest

from serve.web.hand import answered, until

SIZES = [(1280, 800), (360, 740)]
SMALLEST = 44
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NO_CAMERA = "async () => { throw new DOMException('no', 'NotFoundError'); }"


def violations(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page.wait_for_timeout(300)  # colours that are still changing would be measured half-way
    found = axe.Axe().run(page, options={"runOnly": RULES})
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found.response["violations"]]


def menus(page):
    page.locator("summary[aria-label^='Add a sample']").first.click()


def empty(page):
    page.locator(".card").first.get_by_role("button", name="Clear", exact=True).click()
    until(page, "document.querySelector('.card .trouble').textContent !== ''")


def compared(page):
    with answered(page):
        page.get_by_role("switch", name="Compare the methods").click()


def questions(page):
    if page.locator("#wider").is_visible():
        page.locator("#wider").click()
    page.get_by_role("button", name="Ask another question").click()


def camera(page):
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {NO_CAMERA}; }}")
    page.locator("summary[aria-label^='Add a sample']").first.click()
    page.locator(".card").first.get_by_role("button", name="Camera").click()
    until(page, "document.querySelector('#camera-words')?.textContent.includes('No camera')")


def told(page):
    with answered(page):
        page.get_by_role("button", name="Smileys").click()


def walked(page):
    page.locator("#step").focus()
    page.locator("#step").press("Home")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_axe_finds_nothing(size, scheme, visit):
    for state in (None, menus, empty, compared, questions, camera, told, walked):
        page = visit(*size, color_scheme=scheme)
        if state:
            state(page)
        assert violations(page) == [], state


def test_axe_finds_nothing_while_the_server_is_away_or_wants_a_token(visit, own_server):
    visit.forgive("401")
    visit.forgive("Failed to load")
    page = visit(url=own_server(token="open sesame").url, wait=False)
    page.locator("#token-value").wait_for()
    assert violations(page) == []
    page = visit()
    page.route("**/api/**", lambda route: route.abort())
    page.locator(".card").first.get_by_role("button", name="Clear", exact=True).click()
    page.locator(".card").first.get_by_role("button", name="Undo", exact=True).click()
    until(page, "document.querySelector('#link').dataset.link === 'offline'")
    assert violations(page) == []


@pytest.mark.parametrize("size", [*SIZES, (320, 640)], ids=str)
def test_targets_are_large_and_nothing_is_cut_off(size, visit):
    page = visit(*size)
    questions(page)
    small = page.evaluate(
        """(least) => [...document.querySelectorAll('button, summary, select, input, a, canvas')]
            .map((node) => [node, node.getBoundingClientRect()])
            .filter(([node, box]) => box.width && !node.matches('.skip') && (box.width < least || box.height < least))
            .map(([node, box]) => `${node.outerHTML.slice(0, 80)} ${box.width}x${box.height}`)""",
        SMALLEST,
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_the_question_stays_beside_the_classes_and_covers_nothing(visit):
    page = visit()
    for _ in range(4):
        page.get_by_role("button", name="Add a class").click()
    compared(page)
    where = (
        """(id) => { const box = document.querySelector(id).getBoundingClientRect(); return [box.top, box.bottom]; }"""
    )
    page.evaluate("scrollTo(0, 250)")
    assert page.evaluate(where, "#ask")[0] == 16  # it follows
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate(where, "#ask")[1] <= page.evaluate(where, "#watch")[0]


def test_it_holds_at_200_percent(visit):
    page = visit(640, 400, device_scale_factor=2)  # 1280x800 at 200 %
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
    assert page.evaluate("getComputedStyle(document.querySelector('#ask')).position") == "static"


def test_focus_is_seen_and_everything_is_reached_by_tab(visit):
    page = visit()
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        node = page.evaluate(
            """() => {
                const node = document.activeElement;
                if (node === document.body) return null;
                return [node.id || node.getAttribute('aria-label'), getComputedStyle(node).outlineStyle];
            }"""
        )
        if node is None:
            break  # once around
        reached.add(node[0])
        assert node[1] != "none", node
    wanted = {"question", "add-class", "play", "step", "method", "steps", "rate", "compare", "save-task", "open-task"}
    assert wanted <= reached, wanted - reached


def test_motion_stops_when_it_is_not_wanted(visit):
    page = visit(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.after')).transitionDuration") == "0s"
