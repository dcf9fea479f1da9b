"""The outermost layer of the app: access, maximum body size, deadline, request id, log and counters.

Plain ASGI, since it runs for every request: Starlette's BaseHTTPMiddleware would start a task per request.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from pregao.api import refusals
from pregao.api.access import Access
from pregao.api.monitoring import Monitoring

logger = logging.getLogger(__name__)
requests = logging.getLogger("pregao.requests")
"""One line of JSON per request; conf/hydra/job_logging/server.yaml sends it to stdout."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SECONDS_BETWEEN_LINES = 0.2
"""Lines are written together: one by one they take longer than a remembered answer."""

DISCONNECTED = 499
"""The status, after nginx, of a request whose client left before the answer."""

INTERNAL_ERROR = "An internal error; see the server's log."

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STOCK = re.compile(rb'"stock": ?"(\w+)"')
_VERSION = re.compile(rb'"version": ?(\d+)')


class RequestMiddleware:
    """Checks each request, limits its time, logs it and counts its answer.

    Args:
        app: the next ASGI layer.
        access: refuses requests.
        max_body: bytes.
        deadline: seconds.
        monitoring: counts the responses.
        log: whether each request is logged.
    """

    def __init__(
        self, app: App, *, access: Access, max_body: int, deadline: float, monitoring: Monitoring, log: bool
    ) -> None:
        self.app = app
        self.access = access
        self.max_body = max_body
        self.deadline = deadline
        self.monitoring = monitoring
        self.log = log
        self._lines: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the app."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            self._write_lines()
            return
        started, method, headers = time.perf_counter(), scope["method"], dict(scope["headers"])
        response = _Response(send, headers.get(b"x-request-id", b""))
        if method == "HEAD":  # answered as GET; uvicorn sends the headers of the answer alone
            scope = {**scope, "method": "GET"}
        try:
            await self._with_deadline(scope, headers, receive, response)
        except Exception:
            logger.exception("%s %s failed, request %s.", method, _route(scope), response.id.decode())
            if response.status:  # a part has been sent: uvicorn closes the connection
                response.status = 500
                raise
            await response.refuse(500, INTERNAL_ERROR)
        finally:
            seconds, status = time.perf_counter() - started, response.status or DISCONNECTED
            self.monitoring.answered(method, _route(scope), status, seconds)
            if self.log:
                self._write_later(_entry(method, scope, response, status, seconds))

    def _write_later(self, entry: dict[str, Any]) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(SECONDS_BETWEEN_LINES, self._write_lines)
        self._lines.append(json.dumps(entry))

    def _write_lines(self) -> None:
        if self._lines:
            requests.info("%s", "\n".join(self._lines))
            self._lines.clear()

    async def _with_deadline(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, response: "_Response"
    ) -> None:
        try:
            async with asyncio.timeout(self.deadline) as clock:
                body = await self._body(scope, headers, receive, response)
                if body is None:
                    return
                if _may_take_long(scope):
                    clock.reschedule(None)
                await self.app(scope, _replay(body, receive), response)
        except TimeoutError:
            if not clock.expired():
                raise
            logger.warning("%s %s took longer than %g s.", scope["method"], _route(scope), self.deadline)
            await response.refuse(504, f"The answer was not ready within {self.deadline:g} s. Try again later.")

    async def _body(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, response: "_Response"
    ) -> bytes | None:
        """The whole body; None if the request has been refused."""
        refusal = self.access.refusal(scope, headers)
        if refusal is not None:
            await response.refuse(*refusal)
            return None
        length = headers.get(b"content-length", b"0")
        if int(length) > self.max_body if length.isdigit() else True:
            await self._too_long(response)
            return None
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.max_body:
                await self._too_long(response)
                return None
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def _too_long(self, response: "_Response") -> None:
        await response.refuse(413, f"The body is too long: at most {self.max_body} bytes are read.", close=True)


class _Response:
    """Wraps `send`; adds the request id to the headers.

    Attributes:
        id: the client's X-Request-ID, or a new one.
        status: 0 before it is sent.
        body: the first part of the body.
    """

    def __init__(self, send: Send, given: bytes) -> None:
        self.send = send
        self.id = given if _ID.fullmatch(given) else secrets.token_hex(16).encode()
        self.status = 0
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id)]
        elif not self.body:
            self.body = message.get("body", b"")
        await self.send(message)

    async def refuse(self, status: int, sentence: str, close: bool = False) -> None:
        """Send a sentence as JSON, unless a response has started."""
        if self.status:
            return
        body = json.dumps(refusals.plain(sentence)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 429:
            headers.append((b"retry-after", b"60"))
        if close:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _entry(method: str, scope: Scope, response: _Response, status: int, seconds: float) -> dict[str, Any]:
    """The request's line in the log; its stock is the answer's, or the one that a refused request asked for."""
    stock, version = _STOCK.search(response.body), _VERSION.search(response.body)
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": response.id.decode(),
        "method": method,
        "route": _route(scope),
        "status": status,
        "ms": round(1000 * seconds, 3),
        "stock": stock[1].decode() if stock else scope.get("state", {}).get("stock"),
        "version": int(version[1]) if version else None,
    }


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first returns the body, which has been read."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _may_take_long(scope: Scope) -> bool:
    """Whether the request waits for a training."""
    path = scope["path"]
    return bool(path == "/train" or path.endswith("/events"))


def _route(scope: Scope) -> str:
    """The pattern of the route; one label for all unknown paths, whose number has no limit."""
    return str(getattr(scope.get("route"), "path", "none"))
