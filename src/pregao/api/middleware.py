"""The outermost layer of the app: API key, maximum body size, deadline, request counters.

Plain ASGI, since it runs for every request: Starlette's BaseHTTPMiddleware would start a task per request.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pregao.api.monitoring import Monitoring

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
"""Paths without a key; the documentation needs the list of routes."""


class RequestMiddleware:
    """Checks each request, limits its time and counts its answer.

    Args:
        app: the next ASGI layer.
        api_key: the key that clients must send; None if no key is needed.
        max_body: bytes.
        deadline: seconds.
        monitoring: counts the responses.
    """

    def __init__(
        self, app: App, *, api_key: str | None, max_body: int, deadline: float, monitoring: Monitoring
    ) -> None:
        self.app = app
        self.api_key = None if api_key is None else api_key.encode()
        self.max_body = max_body
        self.deadline = deadline
        self.monitoring = monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it to the app."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        response = _Response(send)
        try:
            await self._with_deadline(scope, receive, response)
        finally:
            status = response.status or 499  # the client disconnected
            self.monitoring.answered(scope["method"], _route(scope), status, time.perf_counter() - started)

    async def _with_deadline(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        try:
            async with asyncio.timeout(self.deadline) as clock:
                body = await self._body(scope, receive, response)
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

    async def _body(self, scope: Scope, receive: Receive, response: "_Response") -> bytes | None:
        """The whole body; None if the request has been refused."""
        headers = dict(scope["headers"])
        if self.api_key is not None and scope["path"] not in OPEN:
            given = headers.get(b"x-api-key") or _bearer(scope, headers)
            if not hmac.compare_digest(given, self.api_key):
                await response.refuse(401, "The header X-API-Key is missing or wrong.")
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
    """Wraps `send`, and keeps the status that was sent; 0 before."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.send(message)

    async def refuse(self, status: int, sentence: str, close: bool = False) -> None:
        """Send a sentence as JSON, unless a response has started."""
        if self.status:
            return
        body = json.dumps({"detail": sentence}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if close:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


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


def _bearer(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """The key in the header of Prometheus, which before version 3 can send no other."""
    return headers.get(b"authorization", b"").removeprefix(b"Bearer ") if scope["path"] == "/metrics" else b""


def _route(scope: Scope) -> str:
    """The pattern of the route; one label for all unknown paths, whose number has no limit."""
    return str(getattr(scope.get("route"), "path", "none"))
