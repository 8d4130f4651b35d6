"""What every request passes and every answer carries: hosts, the token, security headers, a count."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastadapt.serve.metrics import Metrics
from fastadapt.serve.problems import Problem, internal

logger = logging.getLogger("fastadapt.serve")

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
}
_GUARDED = ("/api/", "/metrics")
_READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Let through what may pass.

    There are no CORS headers, so pages of other origins can't read answers; what they could still do is make this
    machine work, so requests that a browser says come from another site are refused, and those that change something
    from any other origin. So are unknown host names (a page that renames its own server to this machine). Programs
    that are no browser send neither `Origin` nor `Sec-Fetch-Site`, and pass.

    Args:
        app: what comes next.
        metrics: where requests are counted.
        token: what a client has to send as `Authorization: Bearer TOKEN`; None lets everybody in.
        hosts: names under which the server may be asked; None takes every one.
        body_bytes: the longest body that may be announced; what arrives is counted by Starlette.
        body_seconds: how long a body may take to arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        *,
        token: str | None = None,
        hosts: Sequence[str] | None = None,
        body_bytes: int = 8_000_000,
        body_seconds: float = 60.0,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.body_bytes = body_bytes
        self.body_seconds = body_seconds
        self.token = None if token is None else token.encode()
        self.hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        private = path.startswith(_GUARDED)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = "no-store" if private else "no-cache"
                # the route as it is declared: an address with an id in it would be a series of its own
                route = getattr(scope.get("route"), "path", None) or (
                    "static" if path.startswith("/static") else "other"
                )
                self.metrics.count(
                    "requests_total", route=route, method=_known(scope["method"]), status=str(message["status"])
                )
            await send(message)

        problem = self._problem(Headers(scope=scope), scope["method"], path, private)
        if problem is not None:
            await _reply(problem, answer)
            return
        try:
            await self.app(scope, self._in_time(receive), answer)
        except Exception:  # a bug: the log gets all of it, the client nothing
            if started:
                raise
            logger.exception("a request failed: %s %s", scope["method"], ascii(path[:200]))
            await _reply(internal(), answer)

    def _in_time(self, receive: Receive) -> Receive:
        """Return `receive` with a limit on how long a body may take: half-sent ones would keep others out."""
        end = time.monotonic() + self.body_seconds
        complete = False

        async def within() -> Message:
            nonlocal complete
            if complete:  # from here on it is waited for that the client leaves
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                told = f"the body did not arrive within {self.body_seconds:g} seconds; send it again"
                raise Problem(408, "body_too_slow", told) from None
            complete = not message.get("more_body", False)
            return message

        return within

    def _problem(self, headers: Headers, method: str, path: str, private: bool) -> Problem | None:
        if not path.isprintable():  # a route would take "/" and a line feed for "/"
            return Problem(404, "not_found", "there is nothing at this address")
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            return Problem(400, "unknown_host", "this server is not known under that name; use the address it printed")
        if "transfer-encoding" in headers and "content-length" in headers:
            # two lengths of one body: a proxy in front may believe the other one, and take the rest for a request
            told = "a request has Content-Length or Transfer-Encoding, not both; send one of them"
            return Problem(400, "two_lengths", told, headers={"Connection": "close"})
        if private and _from_elsewhere(headers, method):
            return Problem(403, "cross_site", "requests from pages of other sites are refused; use the page itself")
        if private and self.token is not None:
            # headers are bytes, which Starlette shows as Latin-1; compared in constant time, so that the beginning of
            # the token can't be guessed letter by letter
            kind, _, given = headers.get("authorization", "").partition(" ")
            if not secrets.compare_digest(given.strip().encode("latin-1"), self.token) or kind.lower() != "bearer":
                return Problem(
                    401,
                    "token_needed",
                    "this server asks for a token: send the header Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or len(announced) > 18 or int(announced) > self.body_bytes:
            return Problem(413, "body_too_large", f"the body is larger than {self.body_bytes / 1e6:g} MB; send less")
        return None


def _from_elsewhere(headers: Headers, method: str) -> bool:
    """Whether a browser says that a page of another site asks, or of another origin for what changes something."""
    site = headers.get("sec-fetch-site")
    if site == "cross-site":
        return True
    if method in _READING:
        return False
    origin = headers.get("origin")  # "null" is a page that has none: a sandboxed frame, a file
    return site == "same-site" or (origin is not None and origin.lower().partition("://")[2] != _asked_at(headers))


def _asked_at(headers: Headers) -> str:
    return headers.get("host", "").lower()


def _host(value: str) -> str:
    """Return a Host header without its port."""
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0].lower()


def _known(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


async def _reply(problem: Problem, send: Send) -> None:
    content = json.dumps(problem.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
