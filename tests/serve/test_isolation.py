"""Many users at once: nobody sees another one's work, nobody waits for ever, what nobody wants is stopped (S6, S7)."""

import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from fastadapt.serve import exports, samples
from fastadapt.serve.app import create_app
from fastadapt.serve.jobs import Job, Workers
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from serve.kit import (
    SHAPES,
    adapt,
    browser,
    classes,
    coded,
    create,
    drawing,
    lines_of,
    listening,
    until,
    waves,
)


def sessions(count):
    """Return different requests: ways, shots, method, queries."""
    methods = ("maml", "fine-tune", "nearest-mean")
    for i in range(count):
        task = classes(2 + i % 4, 1 + i % 2, shift=i % 5)
        queries = [coded(SHAPES[(i + j) % 5], shift=1) for j in range(1 + i % 3)]
        yield task, {"method": methods[i % 3], "steps": 1 + i % 4, "queries": queries, "sequence": i}


def without_time(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def let_in(client, path, body):
    """Ask again and again while the queue is full."""
    while (answer := client.post(path, json=body)).status_code == 429:
        assert int(answer.headers["retry-after"]) >= 1
        time.sleep(0.02)
    assert answer.status_code < 300, answer.text
    return answer


def session(client, asked, times):
    task = let_in(client, "/api/tasks", {"model": "drawing", "classes": asked[0]}).json()["id"]
    found = [without_time(lines_of(let_in(client, f"/api/tasks/{task}/adapt", asked[1]))) for _ in range(times)]
    queries = {key: asked[1][key] for key in ("method", "queries")}
    return found, let_in(client, f"/api/tasks/{task}/predict", queries).json()["probabilities"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("users", "times", "queue"),
    [(6, 2, 64), pytest.param(50, 20, 30, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_users_at_once_get_what_each_would_get_alone(users, times, queue):
    alone = []
    with TestClient(create_app([drawing()], limits=Limits(workers=1, seconds=300))) as client:
        for asked in sessions(users):
            alone.append(session(client, asked, 1))
    with listening(create_app([drawing()], limits=Limits(workers=4, queue=queue, seconds=300))) as address:

        def user(asked):
            with browser(address) as client:
                return session(client, asked, times)

        with ThreadPoolExecutor(users) as pool:
            together = list(pool.map(user, sessions(users)))
    for (once, once_asked), (often, often_asked) in zip(alone, together, strict=True):
        assert all(found == once[0] for found in often)
        assert often_asked == once_asked


@pytest.mark.long
@pytest.mark.parametrize("norm", ["support", "transductive", "running"])
def test_an_answer_does_not_depend_on_what_else_is_asked(norm):
    queries = [coded(name, shift=2) for name in SHAPES]
    with TestClient(create_app([drawing(norm=norm)], limits=Limits(workers=1, seconds=300))) as client:
        task = create(client, classes=classes(3, 2))
        together = adapt(client, task, steps=2, queries=queries)
        for i, query in enumerate(queries):
            alone = adapt(client, task, steps=2, queries=[query])
            for many, one in zip(together[:-1], alone[:-1], strict=True):
                assert many["probabilities"][i] == one["probabilities"][0]
            assert together[-1]["nearest"][i] == alone[-1]["nearest"][0]


class Slow:
    """Let every inner step of a server take a while, and count them."""

    def __init__(self, monkeypatch, seconds):
        from fastadapt.serve import adaptation

        self.steps = 0
        judged = adaptation._judged

        def slowly(*args):
            self.steps += 1
            time.sleep(seconds)
            return judged(*args)

        monkeypatch.setattr(adaptation, "_judged", slowly)


def test_a_client_that_leaves_cancels_its_job_within_a_step(monkeypatch):
    slow = Slow(monkeypatch, 0.05)
    app = create_app([drawing()], limits=Limits(workers=1, seconds=300))
    with listening(app) as address, browser(address) as client:
        task = create(client)
        with client.stream("POST", f"/api/tasks/{task}/adapt", json={"steps": 50}) as answer:
            assert next(answer.iter_lines())
        seen = slow.steps
        until(lambda: app.state.service.workers.busy == 0)
        assert slow.steps <= seen + 4
        assert client.get(f"/api/tasks/{task}").json()["adapted"] == []
        assert 'ended="cancelled"' in client.get("/metrics").text


@pytest.mark.long
@pytest.mark.parametrize("asked", ["create", "predict", "export"])
def test_whatever_a_client_that_leaves_has_asked_for_is_stopped(monkeypatch, caplog, asked):
    ended = []

    def endless(*args):
        check = args[-1].check if hasattr(args[-1], "check") else args[-1]
        try:
            for _ in range(600):
                time.sleep(0.05)
                check()
        except Problem as problem:
            ended.append(problem.code)
            raise

    app = create_app([drawing()], limits=Limits(workers=1, seconds=300))
    service = app.state.service
    with listening(app) as address, browser(address) as client, browser(address) as other:
        task = create(client)
        adapt(client, task, steps=1)
        place = exports if asked == "export" else samples
        monkeypatch.setattr(place, "export" if asked == "export" else "decoded", endless)
        other.timeout = 0.3
        with pytest.raises(httpx.TimeoutException):
            if asked == "create":
                other.post("/api/tasks", json={"model": "drawing", "classes": classes()})
            elif asked == "predict":
                other.post(f"/api/tasks/{task}/predict", json={"queries": [coded("ring")]})
            else:
                other.get(f"/api/tasks/{task}/export", params={"format": "model"})
        until(lambda: ended == ["cancelled"] and service.workers.busy == 0, 10)
        assert len(service.store) == 1
        assert client.get("/healthz").status_code == 200
        gc.collect()  # a future that nobody asks tells the log when it is dropped
        assert client.get("/healthz").status_code == 200
    assert caplog.records == []


@pytest.mark.long
def test_a_client_that_leaves_while_it_waits_is_never_served(monkeypatch):
    slow = Slow(monkeypatch, 0.05)
    app = create_app([drawing()], limits=Limits(workers=1, seconds=300))
    with listening(app) as address, browser(address) as client, browser(address) as other:
        first, second = create(client), create(client)
        with client.stream("POST", f"/api/tasks/{first}/adapt", json={"steps": 20}) as running:
            lines = running.iter_lines()
            next(lines)
            other.timeout = 0.2
            with pytest.raises(Exception, match="timed out"):
                other.post(f"/api/tasks/{second}/adapt", json={"steps": 20})
            assert len(list(lines)) == 21
        until(lambda: app.state.service.workers.busy == 0 and app.state.service.workers.waiting == 0)
        assert slow.steps == 21


def test_a_newer_adaptation_of_a_task_cancels_the_older(monkeypatch):
    Slow(monkeypatch, 0.03)
    app = create_app([drawing()], limits=Limits(workers=2, seconds=300))
    with listening(app) as address, browser(address) as client, browser(address) as other:
        task = create(client)
        with client.stream("POST", f"/api/tasks/{task}/adapt", json={"steps": 50, "sequence": 1}) as older:
            lines = older.iter_lines()
            next(lines)
            newer = adapt(other, task, steps=2, sequence=2)
            last = list(lines)[-1]
        assert newer[-1]["done"] and len(newer) == 4
        assert '"sequence": 1' in last and '"cancelled"' in last
        # what the older one would have left never replaces what the newer one did
        assert app.state.service.store.get(task).adapted["maml"].steps == 2


def test_an_adaptation_can_be_cancelled_and_a_dropped_task_stops(monkeypatch):
    Slow(monkeypatch, 0.03)
    with (
        listening(create_app([drawing()], limits=Limits(workers=2, seconds=300))) as address,
        browser(address) as client,
    ):
        for path in ("/adapt", ""):
            task = create(client)
            with (
                browser(address) as other,
                client.stream("POST", f"/api/tasks/{task}/adapt", json={"steps": 50}) as answer,
            ):
                lines = answer.iter_lines()
                next(lines)
                assert other.delete(f"/api/tasks/{task}{path}").status_code == 204
                assert '"cancelled"' in list(lines)[-1]


@pytest.mark.long
def test_a_full_queue_answers_429_with_a_time(monkeypatch):
    Slow(monkeypatch, 0.1)
    app = create_app([drawing()], limits=Limits(workers=1, queue=2, seconds=300))
    with listening(app) as address, browser(address) as client:
        tasks = [create(client) for _ in range(6)]
        found = []

        def ask(task):
            with browser(address) as own:
                found.append(own.post(f"/api/tasks/{task}/adapt", json={"steps": 5}))

        threads = [threading.Thread(target=ask, args=(task,)) for task in tasks]
        threads[0].start()
        until(lambda: app.state.service.workers.busy == 1)  # the others come when it computes
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(30)
    statuses = sorted(answer.status_code for answer in found)
    assert statuses == [200, 200, 200, 429, 429, 429]
    for answer in found:
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) <= 60 and answer.json()["error"]["code"] == "busy"


def test_who_leaves_the_queue_makes_room_at_once():
    workers = Workers(Limits(workers=1, queue=2, seconds=60))
    hold, ran = threading.Event(), []
    workers.submit(workers.job(), lambda job: hold.wait(30))
    until(lambda: workers.busy == 1)
    left = [workers.job() for _ in range(2)]
    for job in left:
        workers.submit(job, lambda job: ran.append("left"))
    with pytest.raises(Problem, match="2 requests are waiting"):
        workers.submit(workers.job(), lambda job: ran.append("refused"))
    for job in left:
        job.cancel()
    assert workers.waiting == 0
    stayed = workers.submit(workers.job(), lambda job: ran.append("stayed"))
    hold.set()
    stayed.result(30)
    workers.close()
    assert ran == ["stayed"] and workers.waiting == workers.busy == 0


def test_a_job_has_a_time_limit(monkeypatch):
    slow = Slow(monkeypatch, 0)
    with TestClient(create_app([drawing()], limits=Limits(workers=1, seconds=3))) as client:
        monkeypatch.setattr(Job, "elapsed", property(lambda job: float(slow.steps)))  # a second for each step
        task = create(client)
        *steps, last = adapt(client, task, steps=50)
        assert last["error"]["code"] == "too_slow" and [line["step"] for line in steps] == [0, 1, 2, 3]


def test_held_out_samples_get_what_is_left_of_half_the_time(monkeypatch):
    with TestClient(create_app([drawing()], limits=Limits(workers=1, seconds=300))) as client:
        task = create(client, classes=classes(3, 2))
        assert adapt(client, task, steps=2)[-1]["held_out"] is not None
        monkeypatch.setattr("fastadapt.serve.service._SPARE", 0.0)
        *steps, last = adapt(client, task, steps=2)
        assert len(steps) == 3 and last["done"] and last["held_out"] is None


@pytest.mark.long
def test_the_health_check_answers_while_everybody_adapts():
    limits = Limits(workers=2, seconds=300)
    with listening(create_app([drawing(), waves()], limits=limits)) as address:
        stop = threading.Event()

        def user():
            with browser(address) as client:
                task = create(client, classes=classes(5, 5))
                while not stop.is_set():
                    client.post(f"/api/tasks/{task}/adapt", json={"steps": 10, "queries": [coded("ring")] * 8})

        users = [threading.Thread(target=user) for _ in range(4)]
        for thread in users:
            thread.start()
        with browser(address) as client:
            client.get("/healthz")
            took = []
            for _ in range(40):
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                took.append(time.monotonic() - began)
                time.sleep(0.01)
        stop.set()
        for thread in users:
            thread.join(30)
    # the target is 200 ms at the 99th percentile on an idle machine; tests run beside others
    assert sorted(took)[-2] < 0.5


@pytest.mark.long
def test_a_server_that_stops_ends_what_runs(monkeypatch):
    Slow(monkeypatch, 0.2)
    app = create_app([drawing()], limits=Limits(workers=1, seconds=60))
    found = []

    def ask(address, task):
        stream = {"method": "POST", "url": f"/api/tasks/{task}/adapt", "json": {"steps": 50}}
        with browser(address) as client, contextlib.suppress(httpx.HTTPError), client.stream(**stream) as answer:
            found.extend(answer.iter_lines())

    with listening(app) as address, browser(address) as client:
        thread = threading.Thread(target=ask, args=(address, create(client)))
        thread.start()
        until(lambda: app.state.service.workers.busy == 1)
        began = time.monotonic()
    thread.join(10)
    assert time.monotonic() - began < 6  # all its steps would take 10 s
    assert app.state.service.workers.closed and app.state.service.workers.busy == 0
