"""The route that fits a picture or a sound: what it streams, refuses, cancels and counts."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fastadapt.serve.app import create_app
from fastadapt.serve.limits import Limits
from fastadapt.showcases.scene import scene
from fastadapt.signals.fit import fits
from fastadapt.signals.signal import photo_of, sound_of
from fastadapt.signals.starts import load_pair
from serve.kit import browser, drawing, lines_of, listening, until
from signals.waves import tone, wav


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app([drawing()], limits=Limits(workers=2, seconds=300))) as client:
        yield client


def png(size=(90, 60), kind="PNG"):
    content = io.BytesIO()
    Image.fromarray(scene(100)).resize(size).save(content, kind)
    return content.getvalue()


def coded(content):
    return base64.b64encode(content).decode()


def fit(client, **asked):
    answer = client.post("/api/fit", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return lines_of(answer)


def test_a_photograph_is_streamed_step_by_step_as_the_command_fits_it(client):
    first, *steps, done = fit(client, photo=coded(png()), steps=2, side=24, sequence=7)
    assert first["signal"] == {"kind": "photo", "side": 24} and {line["sequence"] for line in (first, *steps)} == {7}
    want = list(fits(photo_of(png(), "a", 24), load_pair("photo"), 2))
    assert [line["step"] for line in steps] == [0, 1, 2]
    for line, both in zip(steps, want, strict=True):
        for name in ("learned", "random"):
            there = getattr(both, name)
            assert line[name]["decibels"] == pytest.approx(there.decibels, abs=1e-3)
            with Image.open(io.BytesIO(base64.b64decode(line[name]["values"]))) as picture:
                pixels = np.asarray(picture)
            np.testing.assert_allclose(pixels, np.clip(there.values, 0, 1) * 255, atol=0.51)
    assert done["done"] is True and done["seconds"] > 0 and done["sentence"].startswith("After 2 steps: ")


def test_a_sound_is_streamed_as_samples(client):
    content = wav(tone(0.5, 44_100), 44_100)
    first, *steps, _ = fit(client, sound=f"data:audio/wav;base64,{coded(content)}", steps=1, seconds=0.1)
    assert first["signal"]["seconds"] == pytest.approx(0.1, abs=1e-3) and first["signal"]["rate"] == 11_025
    target = np.frombuffer(base64.b64decode(first["target"]), "<i2") / 32767
    np.testing.assert_allclose(target, sound_of(content, "a", 0.1).target, atol=1e-4)
    assert [len(base64.b64decode(line["random"]["values"])) for line in steps] == [2 * len(target)] * 2


def test_what_is_offered_is_said(client):
    photo, sound = client.get("/api/models").json()["signals"]
    assert (photo["kind"], sound["kind"]) == ("photo", "sound")
    assert photo["steps"] == {"default": 20, "most": 50} and photo["side"] == {"default": 64, "fewest": 16, "most": 128}
    assert sound["seconds"] == {"default": 1.5, "most": 3.0} and sound["headline"] == 3
    assert len(photo["measured"]["gain"]) > photo["headline"] and "mini-ImageNet" in photo["trained_on"]
    assert "microphone=(self)" in client.get("/").headers["Permissions-Policy"]  # for the page alone
    assert "FitAsked" in json.dumps(client.get("/openapi.json").json()["paths"]["/api/fit"])


REFUSED = {
    "nothing": ({}, 422, "bad_signal", "photo"),
    "two": ({"photo": coded(png()), "example": "photo"}, 422, "bad_signal", "photo"),
    "no base64": ({"photo": "!"}, 400, "bad_base64", "photo"),
    "no base64 of a sound": ({"sound": "!"}, 400, "bad_base64", "sound"),
    "no picture": ({"photo": coded(b"hello")}, 400, "bad_image", "photo"),
    "half a picture": ({"photo": coded(png()[:200])}, 400, "bad_image", "photo"),
    "a tiny picture": ({"photo": coded(png((9, 9)))}, 400, "bad_image", "photo"),
    "a picture of too many pixels": ({"photo": coded(png((4100, 4000), "GIF"))}, 400, "bad_image", "photo"),
    "no sound": ({"sound": coded(b"hello")}, 400, "bad_sound", "sound"),
    "silence": ({"sound": coded(wav(np.zeros(3000)))}, 400, "bad_sound", "sound"),
    "a picture as a sound": ({"sound": coded(png())}, 400, "bad_sound", "sound"),
    "too many steps": ({"example": "photo", "steps": 51}, 422, "too_many_steps", "steps"),
    "too many pixels": ({"example": "photo", "side": 129}, 422, "bad_value", "side"),
    "too long": ({"example": "sound", "seconds": 3.5}, 422, "bad_value", "seconds"),
    "another example": ({"example": "cat"}, 422, "bad_value", "example"),
    "an unknown key": ({"example": "photo", "path": "/etc/passwd"}, 422, "bad_value", "path"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_fitted_is_told(name, client):
    body, status, code, field = REFUSED[name]
    answer = client.post("/api/fit", json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field) and error["message"]


def test_a_sound_of_any_rate_takes_no_more_than_its_stretch(client):
    """Six million samples at 100 a second are 17 hours, which at 11,025 would be gigabytes."""
    sound = wav(np.tile(tone(1.0, 100, 20), 4000), 100, 8)
    began = time.monotonic()
    first, *_ = fit(client, sound=coded(sound), steps=0, seconds=0.2)
    assert first["signal"]["whole"] == pytest.approx(4000) and time.monotonic() - began < 20


def test_whoever_leaves_stops_it_and_it_is_counted():
    app = create_app([drawing()], limits=Limits(workers=1, seconds=300))
    with listening(app) as address, browser(address) as client:
        with client.stream("POST", "/api/fit", json={"example": "photo", "steps": 50, "side": 128}) as answer:
            assert next(answer.iter_lines())
        until(lambda: 'fits_total{signal="photo",ended="cancelled"} 1' in client.get("/metrics").text)
        until(lambda: app.state.service.workers.busy == 0)


@pytest.mark.long
def test_users_at_once_get_what_each_would_get_alone():
    asked = [{"example": "photo", "steps": k, "side": 16 + 8 * k} for k in range(1, 4)]
    asked += [{"example": "sound", "steps": 1, "seconds": 0.1 * k} for k in (1, 2)]

    def told(client, body):
        *lines, done = fit(client, **body)
        return [*lines, done["sentence"]]

    with TestClient(create_app([drawing()], limits=Limits(workers=1, seconds=300))) as client:
        alone = [told(client, body) for body in asked]
    together = {}
    with listening(create_app([drawing()], limits=Limits(workers=4, seconds=300))) as address:

        def user(i):
            with browser(address) as client:
                together[i] = told(client, asked[i])

        threads = [threading.Thread(target=user, args=(i,)) for i in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [together[i] for i in range(len(asked))] == alone


def test_what_takes_too_long_ends_in_a_sentence():
    app = create_app([drawing()], limits=Limits(workers=1, seconds=0.05))
    with TestClient(app) as client:
        answer = client.post("/api/fit", json={"example": "photo", "steps": 50, "side": 64})
        last = lines_of(answer)[-1]
    assert last["error"]["code"] == "too_slow" and "took more than 0.05 seconds" in last["error"]["message"]
