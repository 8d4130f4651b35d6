"""What the tests of the service share: small models, drawings, and a server that listens for real."""

import base64
import contextlib
import io
import json
import socket
import threading
import time

import httpx2 as httpx
import torch
import uvicorn
from PIL import Image, ImageDraw

from fastadapt.runs.config import Conv4Net, MAMLMethod, MLPNet, OmniglotData, ReptileMethod, RunConfig, SinusoidData
from fastadapt.runs.run_files import LoadedRun
from fastadapt.serve.served import ServedModel

SHAPES = ("cross", "ring", "bars", "roof", "dot")


def picture(name, side=56, shift=0, kind="PNG", size=None):
    """Return the bytes of one of five signs, black on white."""
    image = Image.new("L", size or (side, side), 255)
    pen, low, high, width = ImageDraw.Draw(image), side // 6 + shift, side * 5 // 6 + shift, max(2, side // 12)
    if name == "cross":
        pen.line((low, low, high, high), 0, width)
        pen.line((low, high, high, low), 0, width)
    elif name == "ring":
        pen.ellipse((low, low, high, high), None, 0, width)
    elif name == "bars":
        for x in (low, (low + high) // 2, high):
            pen.line((x, low, x, high), 0, width)
    elif name == "roof":
        pen.line((low, high, side // 2 + shift, low, high, high), 0, width)
    else:
        pen.ellipse((side // 2 - width, side // 2 - width, side // 2 + width, side // 2 + width), 0)
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def coded(*args, **options):
    return base64.b64encode(picture(*args, **options)).decode()


def classes(ways=3, shots=1, shift=0):
    return [
        {"name": name, "images": [coded(name, shift=shift + 2 * i) for i in range(shots)]} for name in SHAPES[:ways]
    ]


def loaded(config, name):
    torch.manual_seed(0)
    return LoadedRun(config.build().eval(), config, name, 0)


def drawing(name="drawing", **method):
    """Return a small model of 2 to 5 classes whose queries are normalised by the support set."""
    settings = {"inner_lr": 0.2, "steps": 1, "test_steps": 3, "norm": "support", **method}
    data = OmniglotData(ways=5, fewest_ways=2)
    return ServedModel(loaded(RunConfig(data, Conv4Net(width=8), MAMLMethod(**settings)), name))


def waves(name="waves"):
    """Return a small model of points."""
    net = MLPNet(hidden=(16,), activation="tanh", init_std=None)
    method = ReptileMethod(inner_lr=0.05, test_steps=4, inner_state="reset", inner_rule="sgd", test_batch=None)
    return ServedModel(loaded(RunConfig(SinusoidData(shots=4), net, method), name))


def lines_of(response):
    return [json.loads(line) for line in response.text.splitlines()]


def create(client, model="drawing", **task):
    answer = client.post("/api/tasks", json={"model": model, **(task or {"classes": classes()})})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def adapt(client, task, **asked):
    answer = client.post(f"/api/tasks/{task}/adapt", json=asked)
    assert answer.status_code == 200, answer.text
    return lines_of(answer)


@contextlib.contextmanager
def listening(app, **options):
    """Run an application behind a real socket and give its address."""
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        place.close()


def until(condition, seconds=60.0):
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def browser(address, **options):
    return httpx.Client(base_url=address, timeout=240, trust_env=False, **options)
