"""Calls of models, in trips through LitServe's queue: calls that come during a trip share the next one.

A trip takes longer than a network, and as long for one call as for thirty.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from pregao.api.forecast_api import Call
from pregao.errors import ForecastFailed

MAX_CALLS = 32
"""Calls in one trip."""

TRIES = 3
"""A trip whose process died is sent again, which is safe: a forecast has no side effects."""

Send = Callable[[list[Call]], Awaitable[list[Any]]]
"""The endpoint of the LitAPI."""


@dataclass(frozen=True)
class _Request:
    call: Call
    result: asyncio.Future[Any]


class RequestBatcher:
    """Runs models in inference processes.

    Args:
        send: one trip.
        processes: their number; each may have one running and one waiting trip.
        deadline: seconds for all tries together.
    """

    def __init__(self, send: Send, processes: int, deadline: float) -> None:
        self.send = send
        self.free = 2 * processes
        self.seconds = deadline / TRIES
        self._waiting: deque[_Request] = deque()
        self._trips: set[asyncio.Task[None]] = set()

    async def __call__(self, folder: str, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """The result of the method of the model in this folder; None if its files are damaged.

        Raises:
            ForecastFailed: the inference processes do not answer.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request((folder, method, arguments), future))
        self._dispatch()
        return await future

    def _dispatch(self) -> None:
        while self.free and self._waiting:
            self.free -= 1
            requests = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_CALLS))]
            trip = asyncio.create_task(self._answer(requests))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)

    async def _answer(self, requests: list[_Request]) -> None:
        try:
            wanted = [request for request in requests if not request.result.done()]  # its client may have left
            answers = await self._send_with_retries([request.call for request in wanted]) if wanted else []
            for request, answer in zip(wanted, answers, strict=True):
                if not request.result.done():
                    request.result.set_result(answer)
        except Exception as error:
            for request in requests:
                if not request.result.done():
                    request.result.set_exception(error)
        finally:
            self.free += 1
            self._dispatch()

    async def _send_with_retries(self, calls: list[Call]) -> list[Any]:
        for _ in range(TRIES):
            try:
                return await asyncio.wait_for(self.send(calls), self.seconds)
            except TimeoutError:
                continue
            except HTTPException as error:  # LitServe's, for every error
                raise ForecastFailed() from error
        raise ForecastFailed()
