"""Methods on the page: one without steps has none to watch, and nothing to set."""

from serve.web.hand import answered, until


def test_a_method_without_steps_has_none_to_watch(visit):
    page = visit()
    assert "Before the first step" in page.locator("#story").inner_text() or page.locator("#player").is_visible()
    with answered(page):
        page.locator("#method").select_option("nearest-mean")
    until(page, "document.querySelector('#story').textContent.startsWith('This method takes no steps')")
    assert not page.locator("#player").is_visible() and not page.locator("#charts").is_visible()
    assert not page.locator("#steps-field").is_visible() and not page.locator("#rate-field").is_visible()
    assert "before" not in page.locator("#bars").inner_text()
    assert page.locator("#lede").inner_text().startswith("One drawing each and no step at all")
    with answered(page):
        page.get_by_role("switch", name="Compare the methods").click()
    assert page.locator("#steps-field").is_visible()  # for the others
    with answered(page):
        page.locator("#method").select_option("maml")
    assert page.locator("#player").is_visible() and "before" in page.locator("#bars").inner_text()
