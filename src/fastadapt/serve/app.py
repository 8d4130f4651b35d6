"""The application: routes, guard, limits and the page in one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.gzip import GZipMiddleware

from fastadapt.engine.memory import give_back
from fastadapt.errors import FastadaptError
from fastadapt.serve.guard import Guard
from fastadapt.serve.jobs import as_problem
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.routes import api
from fastadapt.serve.schemas import BODIES, field_of
from fastadapt.serve.served import ServedModel
from fastadapt.serve.service import Service
from fastadapt.version import __version__

WEB = Path(__file__).parent / "web"
"""The page."""
_SWEEP = 30.0  # seconds between two looks for tasks that have expired, and for memory that is free
_CODES = {
    400: ("bad_request", "the request can't be read; check how it is put together"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method"),
    413: ("body_too_large", "the body is larger than {megabytes:g} MB; send less"),
}


def create_app(
    models: Sequence[ServedModel],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Sequence[str] | None = None,
    web: Path = WEB,
    warm: bool = False,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        models: what is served, the first being the one that the page opens with.
        limits: how much the server takes on; None is the default.
        token: what a client has to send; None lets everybody in.
        hosts: names under which it may be asked, without port; None takes every one.
        web: folder of the page.
        warm: adapt each model once to a made-up task before `/readyz` says that the server is ready: the first
            request after that takes no longer than the others.

    Raises:
        ConfigError: if there is nothing to serve, or two models have the same name.
    """
    limits = limits if limits is not None else Limits()
    service = Service(models, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_sweep(service))]
        if warm:
            tasks.append(asyncio.create_task(service.warm()))
        else:
            service.warmed.set()
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(service.close)

    # the interactive documentation of FastAPI comes from another site, which the content policy forbids
    app = FastAPI(
        title="fastadapt",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(api(service))
    _add_pages(app, service, web)
    _add_answers(app, limits)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    # inside of the guard, which answers in JSON where a body is announced to be too long; this one counts what arrives
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.body_bytes)
    app.add_middleware(
        Guard,
        metrics=service.metrics,
        token=token,
        hosts=hosts,
        body_bytes=limits.body_bytes,
        body_seconds=limits.body_seconds,
    )
    return app


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        service.store.sweep()
        await asyncio.to_thread(give_back)


def _add_pages(app: FastAPI, service: Service, web: Path) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = web / "index.html"
        if not index.is_file():
            return PlainTextResponse("fastadapt serves its API here; the page is not installed\n", 404)
        return FileResponse(index)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say that the server answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"description": "The first adaptations are being tried."}})
    async def ready() -> Response:
        """Say whether requests are answered at their usual speed."""
        if service.warmed.is_set():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "warming"}, 503, {"Retry-After": "1"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return counters as Prometheus reads them."""
        return PlainTextResponse(service.numbers(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if web.is_dir():
        # the static files alone: a stream of steps must not wait for a block to be full
        app.mount("/static", GZipMiddleware(StaticFiles(directory=web)), name="static")


def _add_answers(app: FastAPI, limits: Limits) -> None:
    """Give every error the one form that clients know."""

    async def known(request: Request, error: Exception) -> Response:
        return _answer(as_problem(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = field_of(tuple(first["loc"][1:]))
        return _answer(Problem(422, "bad_value", f"{where} can't be used: {first['msg'][:200]}", where))

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, sentence = _CODES.get(error.status_code, ("http_error", str(error.detail)))
        message = sentence.format(megabytes=limits.body_bytes / 1e6)
        return _answer(Problem(error.status_code, code, message, headers=error.headers))

    app.add_exception_handler(FastadaptError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)


def _answer(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.body, problem.status, problem.headers)


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, with the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, bodies = models_json_schema(
            [(kind, "validation") for kind in BODIES], ref_template="#/components/schemas/{model}"
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
