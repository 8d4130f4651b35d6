"""One answer for many strokes, stale ones dropped, steps looked at again, methods compared, a server that goes away."""

import re
import urllib.request

from serve.web.hand import answer, answered, mouse, renders, until


def finished(server):
    """Return how many adaptations the server has carried to their end."""
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        text = response.read().decode()
    rows = re.findall(r'^\w*adaptations_total\{[^}]*ended="done"[^}]*\} (\d+)', text, re.MULTILINE)
    return sum(map(int, rows))


def test_five_quick_strokes_are_rendered_once(visit, server):
    page = visit()
    shown, done = renders(page), finished(server)
    mouse(page, page.locator("#question"), *[[(0.1 + 0.15 * k, 0.1), (0.2 + 0.15 * k, 0.2)] for k in range(5)])
    until(page, "n => Number(document.body.dataset.renders) > n", arg=shown)
    page.wait_for_timeout(800)
    assert renders(page) == shown + 1
    assert finished(server) - done <= 2


def test_an_answer_to_an_older_question_is_dropped(visit):
    page = visit()
    held = []
    page.route("**/adapt", lambda route: held.append(route) if not held else route.continue_())
    mouse(page, page.locator("#question"), [(0.1, 0.1), (0.2, 0.1)])
    until(page, "document.querySelector('#link').dataset.link === 'learning'")
    while not held:
        page.wait_for_timeout(20)
    with answered(page):
        mouse(page, page.locator("#question"), [(0.1, 0.2), (0.2, 0.2)])
    shown, said = renders(page), page.locator("#bars").inner_text()
    late = '{"sequence": 1, "step": 0, "loss": 9, "support_accuracy": 0, "probabilities": [[0, 0, 1]]}\n'
    try:
        held[0].fulfill(body=late, content_type="application/x-ndjson")
    except Exception as error:  # the page has given the request up, which is as good
        assert "closed" in str(error).lower() or "handled" in str(error).lower() or "invalid" in str(error).lower()
    page.wait_for_timeout(200)
    assert (renders(page), page.locator("#bars").inner_text()) == (shown, said)


def test_steps_are_looked_at_without_computing_them_again(visit, server):
    page = visit()
    done, after = finished(server), page.locator("#bars .now").all_inner_texts()
    slider = page.locator("#step")
    slider.focus()
    slider.press("Home")
    until(page, "document.querySelector('#step-now').textContent.startsWith('step 0')")
    before = page.locator("#bars .now").all_inner_texts()
    assert before != after
    assert "Before the first step" in page.locator("#story").inner_text()
    slider.press("End")
    until(page, "document.querySelector('#step').value === document.querySelector('#step').max")
    page.wait_for_timeout(50)
    assert page.locator("#bars .now").all_inner_texts() == after
    page.get_by_role("button", name="Play the steps").click()
    until(page, "document.querySelector('#step').value === '3'")
    page.get_by_role("button", name="Pause").click()
    assert finished(server) == done


def test_more_steps_and_a_bad_rate(visit):
    page = visit()
    with answered(page):
        page.get_by_label("Steps", exact=True).select_option("20")
    assert page.locator("#step").get_attribute("max") == "20"
    page.get_by_label("Learning rate").fill("-1")
    page.get_by_label("Learning rate").press("Enter")
    assert "above 0" in page.locator("#rate-trouble").inner_text()


def test_methods_side_by_side(visit):
    page = visit()
    with answered(page):
        page.get_by_role("switch", name="Compare the methods").click()
    methods = page.locator(".method")
    assert methods.count() >= 2
    for method in methods.all():
        assert "loss" in method.locator(".word").inner_text()
        assert method.locator(".bars li").count() == 3
        without = "Nearest class mean" in method.locator("h3").inner_text()
        assert method.locator(".chart").is_visible() is not without  # no steps, no curve
    assert page.locator(".method h3", has_text="Nearest class mean").count() == 1


def test_held_out_accuracy_comes_with_the_second_drawings(visit):
    page = visit()
    assert "second drawing" in page.locator("#held-out").inner_text()
    for card in page.locator(".card").all():
        card.locator("summary[aria-label^='Add a sample']").click()
        card.get_by_role("button", name="New drawing").click()
        with answered(page):
            mouse(page, card.locator("canvas"), [(0.2, 0.3), (0.5, 0.3), (0.8, 0.3)], [(0.5, 0.3), (0.5, 0.8)])
    told = page.locator("#held-out").inner_text()
    assert re.fullmatch(r"Leave-one-out: \d+.% .* not seen them; \d+.% before the first step\.", told), told
    assert page.locator(".card").first.locator(".thumb").count() == 2


def test_the_page_outlives_its_server(visit, own_server):
    server = own_server()
    visit.forgive("ERR_CONNECTION")
    visit.forgive("ERR_EMPTY_RESPONSE")
    visit.forgive("404")  # the new server does not know the old one's task
    page = visit(url=server.url)
    server.stop()
    mouse(page, page.locator("#question"), [(0.1, 0.1), (0.2, 0.1)])
    until(page, "document.querySelector('#link').dataset.link === 'offline'")
    assert "safe" in page.locator("#link").inner_text()
    with answered(page):
        server.start()
    assert answer(page) == "fish"


def test_a_forgotten_task_is_sent_again(visit, server):
    page = visit()
    visit.forgive("404")
    seen = []
    page.on("request", lambda request: seen.append((request.method, request.url)))
    gone = {"error": {"code": "unknown_task", "message": "there is no such task", "field": None}}
    page.route("**/adapt", lambda route: route.fulfill(status=404, json=gone), times=1)
    with answered(page):
        mouse(page, page.locator("#question"), [(0.1, 0.1), (0.2, 0.1)])
    assert ("POST", f"{server.url}/api/tasks") in seen


def test_a_busy_server_is_asked_again(visit):
    page = visit()
    visit.forgive("429")
    busy = {"error": {"code": "busy", "message": "the queue is full", "field": None}}
    page.route("**/adapt", lambda route: route.fulfill(status=429, json=busy, headers={"Retry-After": "1"}), times=1)
    with answered(page):
        mouse(page, page.locator("#question"), [(0.1, 0.1), (0.2, 0.1)])
        until(page, "document.querySelector('#link').dataset.link === 'busy'")
    assert answer(page) == "fish"


def test_a_token_that_no_browser_can_send_is_refused(visit, own_server):
    visit.forgive("401")
    page = visit(url=own_server(token="open sesame").url, wait=False)
    field, trouble = page.locator("#token-value"), page.locator("#token-trouble")
    field.wait_for()
    assert "--token" in page.locator("#token label").inner_text()
    for word in ("сезам", "öffne dich", "  "):
        field.fill(word)
        page.get_by_role("button", name="Go on").click()
        assert "can send only" in trouble.inner_text()
        assert page.evaluate("sessionStorage.getItem('fastadapt-token')") is None
    with answered(page):
        field.fill("open sesame")
        page.get_by_role("button", name="Go on").click()


def test_a_token_is_asked_for_once(visit, own_server):
    server = own_server(token="open sesame")
    visit.forgive("401")
    page = visit(url=server.url, wait=False)
    page.locator("#token-value").fill("wrong")
    page.get_by_role("button", name="Go on").click()
    until(page, "document.querySelector('#token-trouble').textContent.includes('not accepted')")
    with answered(page):
        page.locator("#token-value").fill("open sesame")
        page.get_by_role("button", name="Go on").click()
    page.reload()
    until(page, "Number(document.body.dataset.renders) >= 1")
    assert not page.locator("#token").is_visible()
