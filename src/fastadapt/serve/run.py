"""The server as a process: its socket, its address, its end."""

import asyncio
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence

import torch
import uvicorn

from fastadapt.errors import ConfigError
from fastadapt.serve.app import create_app
from fastadapt.serve.exports import sweep_exports
from fastadapt.serve.limits import Limits
from fastadapt.serve.prompt import Prompt
from fastadapt.serve.served import ServedModel

TOKEN_VARIABLE = "FASTADAPT_TOKEN"
_STOPPING = 3  # seconds that answers under way get when the server stops
_CLIENTS = 256  # connections at once


class _Server(uvicorn.Server):
    """Say when it is ready: from then on no request waits for what is built on first use."""

    def __init__(self, config: uvicorn.Config, warmed: asyncio.Event, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._warmed = warmed
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announced = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        await self._warmed.wait()
        self._ready()


def serve(
    models: Sequence[ServedModel],
    *,
    host: str,
    port: int,
    token: str | None = None,
    workers: int | None = None,
    open_page: bool = False,
) -> int:
    """Serve until Ctrl-C or SIGTERM, and return the exit code.

    Args:
        models: what is served.
        host: the address to listen at.
        port: its port; 0 takes a free one.
        token: what clients have to send; None takes the environment's FASTADAPT_TOKEN, if there is one.
        workers: threads that compute; None is one fewer than there are cores, and at least two.
        open_page: open the page in the user's browser.

    Raises:
        ConfigError: if the address or the token can't be used.
    """
    token = checked_token(token or os.environ.get(TOKEN_VARIABLE) or None)
    limits = Limits() if workers is None else Limits(workers=workers)
    sweep_exports()
    torch.set_num_threads(1)  # one thread for each adaptation: the same bits on every machine load
    app = create_app(models, limits=limits, token=token, hosts=hosts_of(host), warm=True)
    listening = listen(host, port)
    address = f"http://{_in_url(host)}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        http=Prompt,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CLIENTS,
        timeout_graceful_shutdown=_STOPPING,
    )

    def ready() -> None:
        print(
            f"fastadapt serves {', '.join(model.name for model in models)} at {address} (Ctrl-C stops it)", flush=True
        )
        if token is None and not _only_here(host):
            print("note: everybody who reaches this machine can use it; --token asks for a word", file=sys.stderr)
        if open_page:  # a browser in the terminal would not come back, and this is the server's own thread
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with listening:
        _Server(config, app.state.service.warmed, ready).run(sockets=[listening])
    return 0


def checked_token(token: str | None) -> str | None:
    """Return a token that a header can carry.

    Raises:
        ConfigError: if it can't.
    """
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("--token takes letters, digits and signs of ASCII without spaces; a header carries no others")
    return token


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        ConfigError: if it can't be, with the reason.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be 0..65535, got {port}")
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        return listening
    except OSError as error:
        if listening is not None:
            listening.close()
        reason = {
            errno.EADDRINUSE: "another program has it; choose another --port",
            errno.EACCES: "that needs more rights; choose a --port above 1023",
            errno.EADDRNOTAVAIL: "this machine has no such address; choose another --host",
        }.get(error.errno or 0, f"{error.strerror or error}; choose another --host or --port")
        raise ConfigError(f"can't listen at {host}, port {port}: {reason}") from None


def hosts_of(host: str) -> list[str] | None:
    """Return the names under which a server at this address may be asked; None where they can't be known."""
    return ["127.0.0.1", "localhost", "[::1]", _in_url(host).lower()] if _only_here(host) else None


def _only_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
