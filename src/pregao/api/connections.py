"""Limits of connections, which uvicorn lacks: seconds for the headers of a request, and how many are open at once."""

import asyncio
import sys

import psutil
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SECONDS_FOR_HEADERS = 5.0


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which closes connections that send no request, and those beyond `limit_concurrency`.

    uvicorn itself keeps the latter, whose number is then limited by the descriptors of the process alone. At the limit
    a connection that waits for headers is closed for the new one, so that half-sent headers lock no client out.
    """

    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's
        """Start the time of the first request, and close a connection at the limit."""
        # uvicorn itself would refuse requests while connections that are being closed still count.
        most, self.limit_concurrency = self.limit_concurrency, None
        super().connection_made(transport)
        self._start_timer()
        if most is not None and len(self.connections) > most:
            next(filter(_waits, self.connections - {self}), self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Start the time of the next request with its first byte; uvicorn limits the time before that."""
        if self.timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The request has arrived in time."""
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self.timer = self.loop.call_later(SECONDS_FOR_HEADERS, self.transport.close)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _waits(connection: object) -> bool:
    """Whether a connection waits for headers, and is not being closed."""
    return (
        isinstance(connection, LimitedProtocol)
        and connection.timer is not None
        and not connection.transport.is_closing()
    )


def most_connections(asked: int) -> int:
    """The maximum number of open connections: at most half of the descriptors that the process may have."""
    if sys.platform != "linux":
        return asked
    process = psutil.Process()
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (hard, hard))
    return min(asked, hard // 2) if hard > 0 else asked  # -1: without a limit
