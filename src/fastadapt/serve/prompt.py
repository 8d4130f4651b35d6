"""A limit on how long the head of a request may take to arrive."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class Prompt(H11Protocol):
    """Close a connection whose request line and headers are not complete in time.

    uvicorn waits for them without end, so a client that opens connections and says nothing, or sends a header a
    minute, would keep everybody else out. Bodies have a limit of their own (`Guard`).
    """

    seconds: ClassVar[float] = 20.0
    """From the first byte, or from the beginning of a connection, to the empty line."""
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait on if that was not all of a head."""
        super().data_received(data)
        if not self._reads_a_head:
            self._stop_waiting()
        elif self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _reads_a_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self._reads_a_head:
            self.transport.close()
