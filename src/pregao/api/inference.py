"""Batches windows for the inference processes: requests that arrive during a call are sent together in the next call.

A call through LitServe's queues takes longer than the network, and as long for one window as for thirty. The windows of
a batch are forecast one by one, so that a forecast does not depend on its batch, bit for bit.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pregao.api.inference_worker import Batch, PlainWindow, Rows
from pregao.models.forecaster import Window
from pregao.tracking.registry import Served

MAX_WINDOWS = 32
"""Windows in one batch."""

TRIES = 3
"""A batch whose process died is sent again, which is safe: a forecast has no side effects."""

Ask = Callable[[Batch], Awaitable[list[Rows | None]]]
"""Sends model folders and windows to an inference process; returns rows, None where a folder has no model."""


@dataclass(frozen=True)
class _Request:
    folder: str
    window: PlainWindow
    rows: asyncio.Future[Rows | None]


class Inference:
    """Runs models in inference processes.

    Args:
        ask: sends one batch.
        processes: their number; each may have one running and one waiting batch.
        deadline: seconds for all tries together.
    """

    def __init__(self, ask: Ask, processes: int, deadline: float) -> None:
        self.ask = ask
        self.free = 2 * processes
        self.seconds = deadline / TRIES
        self._waiting: deque[_Request] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, served: Served, window: Window) -> Rows:
        """The model's rows; computed in this process where the model's files are gone."""
        future: asyncio.Future[Rows | None] = asyncio.get_running_loop().create_future()
        plain = (window.closes, window.volatilities, window.width, window.stock)
        self._waiting.append(_Request(os.fspath(served.folder), plain, future))
        self._dispatch()
        rows = await future
        return await asyncio.to_thread(served.model.rows, window) if rows is None else rows

    def _dispatch(self) -> None:
        while self.free and self._waiting:
            self.free -= 1
            requests = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_WINDOWS))]
            task = asyncio.create_task(self._send(requests))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, requests: list[_Request]) -> None:
        try:
            open_requests = [
                request for request in requests if not request.rows.done()
            ]  # its client may have disconnected
            batch = [(request.folder, request.window) for request in open_requests]
            answers = await self._ask_with_retries(batch) if batch else []
            for request, rows in zip(open_requests, answers, strict=True):
                if not request.rows.done():
                    request.rows.set_result(rows)
        except Exception as error:
            for request in requests:
                if not request.rows.done():
                    request.rows.set_exception(error)
        finally:
            self.free += 1
            self._dispatch()

    async def _ask_with_retries(self, batch: Batch) -> list[Rows | None]:
        for _ in range(TRIES - 1):
            try:
                return await asyncio.wait_for(self.ask(batch), self.seconds)
            except TimeoutError:
                continue
        return await asyncio.wait_for(self.ask(batch), self.seconds)
