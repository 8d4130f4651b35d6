"""What is taken away answers as the page does."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from serve.web.hand import answered, mouse, until


def taken(page, name, path):
    with page.expect_download(timeout=60_000) as waiting:
        page.locator("#take").get_by_role("button", name=name).click()
    waiting.value.save_as(path)
    return path


@pytest.fixture
def told(visit):
    """Open the page, ask something, and keep the image that was sent and the probabilities that came back."""
    page = visit()
    asked = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/adapt") else None)
    with answered(page):
        mouse(page, page.locator("#question"), [(0.3, 0.2), (0.7, 0.2)])
    image = json.loads(asked[-1].post_data)["queries"][0]
    shown = "async () => (await import('/static/board.js')).board.run.lines.at(-1).probabilities[0]"
    return page, image, page.evaluate(shown)


def test_the_model_answers_as_the_page(told, tmp_path):
    from fastadapt import load_predictor
    from fastadapt.data.images.images import ImageRecipe

    page, image, expected = told
    with zipfile.ZipFile(taken(page, "Adapted model", tmp_path / "model.zip")) as archive:
        archive.extractall(tmp_path / "model")
    (manifest,) = (tmp_path / "model").rglob("predictor.json")
    predictor = load_predictor(manifest.parent)
    recipe = ImageRecipe(**predictor.details["input"])
    x = recipe.decode(base64.b64decode(image.partition(",")[2]), "the question")
    with torch.no_grad():
        chances = predictor(x.unsqueeze(0)).softmax(-1)[0]
    np.testing.assert_allclose(chances, expected, atol=1e-5)


def test_onnx_answers_as_the_page(told, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    page, image, expected = told
    session = runtime.InferenceSession(taken(page, "ONNX", tmp_path / "model.onnx").read_bytes())
    (given,) = session.get_inputs()
    side = given.shape[-1]
    picture = Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))).convert("L")
    assert isinstance(side, int) and picture.size == (105, 105) and len(expected) == 3


def test_the_snippet_is_python(told, tmp_path):
    page, _, _ = told
    text = taken(page, "Python", tmp_path / "use.py").read_text()
    compile(text, "use.py", "exec")
    assert "load_predictor" in text


BUSY = {"error": {"code": "busy", "message": "the queue is full", "field": None}}


@pytest.mark.parametrize("refused", ["**/api/tasks", "**/adapt"])
def test_an_outdated_model_is_not_handed_out(refused, visit, tmp_path):
    page = visit()
    visit.forgive("429")
    downloads = []
    page.on("download", lambda download: downloads.append(download.url))
    page.route(refused, lambda route: route.fulfill(status=429, json=BUSY, headers={"Retry-After": "60"}))
    mouse(page, page.locator(".card canvas").first, [(0.1, 0.1), (0.4, 0.1)])
    until(page, "document.querySelector('#link').dataset.link === 'busy'")
    page.locator("#take").get_by_role("button", name="Adapted model").click()
    until(page, "document.querySelector('#take-trouble').textContent.includes('busy')")
    assert downloads == []
    page.unroute(refused)
    taken(page, "Adapted model", tmp_path / "model.zip")
    assert page.locator("#take-trouble").inner_text() == ""


def test_a_file_wanted_while_the_network_learns_is_made_when_it_has_learned(visit, tmp_path):
    page = visit()
    page.evaluate(
        """() => {
            const usual = window.fetch;
            window.fetch = async (path, options) => {
                if (!path.endsWith("/adapt")) return usual(path, options);
                window.fetch = usual;
                const { sequence, queries } = JSON.parse(options.body);
                const line = { sequence, step: 0, loss: 1, probabilities: queries.map(() => [0.4, 0.3, 0.3]) };
                return new Response(new ReadableStream({
                    start(stream) {
                        stream.enqueue(new TextEncoder().encode(`${JSON.stringify(line)}\\n`));
                        options.signal.addEventListener("abort", () => stream.error(options.signal.reason));
                    },
                }));
            };
        }"""
    )
    mouse(page, page.locator(".card canvas").first, [(0.1, 0.1), (0.4, 0.1)])
    until(page, "document.querySelector('#step-now').textContent.startsWith('step 0')")
    with zipfile.ZipFile(taken(page, "Adapted model", tmp_path / "model.zip")) as archive:
        assert archive.testzip() is None
    assert page.locator("#take-trouble").inner_text() == ""


def test_an_export_without_a_model_says_so(visit):
    page = visit()
    page.locator(".card").first.get_by_role("button", name="Clear", exact=True).click()
    page.locator("#take").get_by_role("button", name="Adapted model").click()
    until(page, "document.querySelector('#take-trouble').textContent.includes('could not be made')")
