"""The addresses below /api, as the page and every other client use them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from fastadapt.serve.bodies import FORM, JSON, read_json, read_task
from fastadapt.serve.exports import Format
from fastadapt.serve.jobs import Job, cancelled
from fastadapt.serve.schemas import Adapt, Answers, Created, ErrorBody, FitAsked, NewTask, Predict, Strict
from fastadapt.serve.service import Service

T = TypeVar("T")
LINES = "application/x-ndjson"
_SENTENCES = {
    400: "Something in the body can't be used.",
    401: "A token is needed.",
    403: "The request comes from a page of another site.",
    404: "There is no such task, or it has expired.",
    408: "The body did not arrive in time.",
    409: "The task was not adapted by that method, or the adaptation was cancelled.",
    413: "Too large.",
    415: "Another media type than JSON or a form with files.",
    422: "The body is not what is described here.",
    429: "The queue is full; see Retry-After.",
    501: "What the export needs is not installed.",
    503: "The server is shutting down, or it took too long; see Retry-After.",
}
_FORM = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "support": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "archive": {"type": "string", "format": "binary"},
    },
    "required": ["model"],
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    always = (400, 401, 403, 503)
    return {status: {"model": ErrorBody, "description": _SENTENCES[status]} for status in sorted({*always, *statuses})}


def _taking(kind: type[Strict], form: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    if form:
        content[FORM] = {"schema": _FORM}
    return {"requestBody": {"required": True, "content": content}}


def api(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(prefix="/api")
    body = (408, 413, 415, 422, 429)

    @router.get("/models", responses=_errors())
    async def models() -> dict[str, Any]:
        """Say what is served, and within what limits."""
        return service.describe()

    @router.post("/tasks", status_code=201, responses=_errors(*body), openapi_extra=_taking(NewTask, form=True))
    async def create(request: Request) -> Created:
        """Keep a new task; a task never changes afterwards."""
        upload = await read_task(request, service.limits)
        task = await _unless_gone(request, service.create(upload))
        return Created(**service.describe_task(task))

    @router.get("/tasks/{id}", responses=_errors(404))
    async def show(id: str) -> Created:
        """Say what is kept of a task."""
        return Created(**service.describe_task(service.store.get(id)))

    @router.delete("/tasks/{id}", status_code=204, response_class=Response, responses=_errors(404))
    async def drop(id: str) -> None:
        """Forget a task."""
        service.store.drop(id)

    @router.post(
        "/tasks/{id}/adapt",
        response_class=StreamingResponse,
        responses={200: {"content": {LINES: {}}, "description": "One line a step."}, **_errors(404, 409, *body)},
        openapi_extra=_taking(Adapt),
    )
    async def adapt(id: str, request: Request) -> StreamingResponse:
        """Adapt, and tell of every inner step as soon as it is computed."""
        task = service.store.get(id)
        asked = await read_json(request, Adapt)
        return await _streamed(request, service, lambda job: service.adapt(task, asked, job))

    @router.post(
        "/fit",
        response_class=StreamingResponse,
        responses={200: {"content": {LINES: {}}, "description": "One line a step."}, **_errors(*body)},
        openapi_extra=_taking(FitAsked),
    )
    async def fit(request: Request) -> StreamingResponse:
        """Fit a picture or a sound from a learned start and from a random one, and tell of every step of both."""
        asked = await read_json(request, FitAsked)
        return await _streamed(request, service, lambda job: service.fit(asked, job))

    @router.delete("/tasks/{id}/adapt", status_code=204, response_class=Response, responses=_errors(404))
    async def cancel(id: str) -> None:
        """Cancel the adaptation that runs on a task, if one does."""
        running = service.store.get(id).running
        if running is not None:
            running.cancel()

    @router.post("/tasks/{id}/predict", responses=_errors(404, 409, *body), openapi_extra=_taking(Predict))
    async def predict(id: str, request: Request) -> Response:
        """Answer queries with the model that the last finished adaptation left."""
        task = service.store.get(id)
        asked = await read_json(request, Predict)
        answers = await _unless_gone(request, service.predict(task, asked))
        return Response(Answers(**answers).model_dump_json(exclude_none=True), media_type=JSON)

    @router.get(
        "/tasks/{id}/export",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **_errors(404, 409, 413, 422, 429, 501)},
    )
    async def export(id: str, request: Request, format: Format, method: str | None = None) -> Response:
        """Take away the adapted model, an ONNX file, a few lines of Python, or the task."""
        found = await _unless_gone(request, service.export(service.store.get(id), format, method))
        # the name is the run's, whatever letters its folder has
        disposition = f"attachment; filename*=UTF-8''{quote(found.name)}"
        return Response(found.content, media_type=found.kind, headers={"Content-Disposition": disposition})

    return router


async def _gone(request: Request) -> None:
    """Return as soon as the client has gone, even while nothing is being sent."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of the work; cancel it as soon as its client has gone."""
    running, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        gone.result()  # a body that nobody needs may be too large or too slow as well
        raise cancelled()  # nobody hears it
    finally:
        running.cancel()
        gone.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _streamed(
    request: Request, service: Service, begin: Callable[[Job], Awaitable[AsyncIterator[bytes]]]
) -> StreamingResponse:
    """Return what a job tells, line by line; it is cancelled as soon as its client has gone."""
    job = service.workers.job()
    watch = asyncio.create_task(_gone(request))
    watch.add_done_callback(lambda done: None if done.cancelled() else job.cancel())
    try:
        lines = await begin(job)
    except BaseException:
        job.cancel()
        watch.cancel()
        raise
    return StreamingResponse(_watched(lines, watch), media_type=LINES)


async def _watched(lines: AsyncIterator[bytes], watch: "asyncio.Task[None]") -> AsyncIterator[bytes]:
    try:
        async for line in lines:
            yield line
    finally:
        watch.cancel()
        with suppress(AttributeError):
            await lines.aclose()  # type: ignore[attr-defined]
