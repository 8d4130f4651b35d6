"""A limit on how long the head of a request may take to arrive."""

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Prompt(H11Protocol):
    """Close a connection whose request line and headers are not complete in time.

    uvicorn waits for them without end, so a client that opens connections and says nothing, or sends a header a
    minute, would keep everybody else out. Bodies have a limit of their own (`Guard`).
    """

    seconds: ClassVar[float] = 20.0
    """From the first byte, or from the beginning of a connection, to the empty line."""
    rest: ClassVar[float] = 60.0
    """For what is left of a body that was answered before it had arrived."""
    _limit: float | None = None
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting."""
        super().connection_made(transport)
        self._wait(self._allowed)

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait on if that was not all of a head."""
        super().data_received(data)
        if self._allowed != self._limit:
            self._wait(self._allowed)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait(None)
        super().connection_lost(exc)

    @property
    def _allowed(self) -> float | None:
        """How long to wait for what is arriving now; None where somebody else watches."""
        if self.conn.their_state is h11.IDLE:
            return self.seconds
        return self.rest if self.cycle is not None and self.cycle.response_complete else None

    def _wait(self, limit: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._limit = limit
        self._patience = None if limit is None else self.loop.call_later(limit, self._give_up)

    def _give_up(self) -> None:
        if self._allowed == self._limit:
            self.transport.close()
