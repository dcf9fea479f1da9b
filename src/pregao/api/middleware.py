"""What every request passes: the key, the size of its body, the deadline, the counters; and the short way to /predict.

A plain ASGI layer, since it is passed thousands of times a second.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from pregao.api.monitoring import Monitoring

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
"""What needs no key: the documentation is of no use without the list of routes."""

JSON = (b"content-type", b"application/json")


class ShortWay(Protocol):
    """An answer to a body of POST /predict that needs no further look; None where FastAPI shall look."""

    def __call__(self, body: bytes) -> Awaitable[bytes | None] | bytes | None:
        """The answer's body."""


class Gate:
    """The outermost layer of the app.

    Args:
        app: what is behind.
        api_key: what clients must know; None lets everyone in.
        max_body: bytes.
        deadline: seconds.
        monitoring: where answers are counted.
        short_way: see ShortWay.
    """

    def __init__(
        self,
        app: App,
        *,
        api_key: str | None,
        max_body: int,
        deadline: float,
        monitoring: Monitoring,
        short_way: ShortWay,
    ) -> None:
        self.app = app
        self.api_key = None if api_key is None else api_key.encode()
        self.max_body = max_body
        self.deadline = deadline
        self.monitoring = monitoring
        self.short_way = short_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        try:
            await self._in_time(scope, receive, answer)
        finally:
            status = answer.status or 499  # the client went away
            self.monitoring.answered(scope["method"], _route(scope), status, time.perf_counter() - started)

    async def _in_time(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            async with asyncio.timeout(self.deadline) as clock:
                body = await self._body(scope, receive, answer)
                if body is None:
                    return
                if _may_take_long(scope):
                    clock.reschedule(None)
                await self._pass(scope, body, receive, answer)
        except TimeoutError:
            if not clock.expired():
                raise
            logger.warning("%s %s took longer than %g s.", scope["method"], _route(scope), self.deadline)
            await answer.refuse(504, f"The answer was not ready within {self.deadline:g} s. Try again later.")

    async def _body(self, scope: Scope, receive: Receive, answer: "_Answer") -> bytes | None:
        """The whole body; None if the request has been refused."""
        headers = dict(scope["headers"])
        if self.api_key is not None and scope["path"] not in OPEN:
            given = headers.get(b"x-api-key") or _bearer(scope, headers)
            if not hmac.compare_digest(given, self.api_key):
                await answer.refuse(401, "The header X-API-Key is missing or wrong.")
                return None
        length = headers.get(b"content-length", b"0")
        if int(length) > self.max_body if length.isdigit() else True:
            await self._too_long(answer)
            return None
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.max_body:
                await self._too_long(answer)
                return None
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def _too_long(self, answer: "_Answer") -> None:
        await answer.refuse(413, f"The body is too long: at most {self.max_body} bytes are read.", close=True)

    async def _pass(self, scope: Scope, body: bytes, receive: Receive, answer: "_Answer") -> None:
        if scope["path"] == "/predict" and scope["method"] == "POST" and JSON in scope["headers"]:
            found = self.short_way(body)
            if not isinstance(found, bytes | None):
                found = await found
            if found is not None:
                scope["route"] = None
                await answer.send_json(200, found)
                return
        await self.app(scope, _again(body, receive), answer)


class _Answer:
    """`send`, which remembers what was sent."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.send(message)

    async def refuse(self, status: int, sentence: str, close: bool = False) -> None:
        """Answer with a sentence, unless an answer has begun."""
        if not self.status:
            await self.send_json(status, json.dumps({"detail": sentence}).encode(), close)

    async def send_json(self, status: int, body: bytes, close: bool = False) -> None:
        """Answer with JSON."""
        headers = [JSON, (b"content-length", str(len(body)).encode())]
        if close:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first hands out the body that has been read."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _may_take_long(scope: Scope) -> bool:
    """A training that is waited for, and its events."""
    path = scope["path"]
    return bool(path == "/train" or path.endswith("/events"))


def _bearer(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """The key as Prometheus sends it, which before version 3 knows no header but this."""
    return headers.get(b"authorization", b"").removeprefix(b"Bearer ") if scope["path"] == "/metrics" else b""


def _route(scope: Scope) -> str:
    """The route's pattern: addresses that nobody serves must not become labels without end."""
    route = scope.get("route", scope)
    if route is None:
        return "/predict"
    return str(getattr(route, "path", "none"))
