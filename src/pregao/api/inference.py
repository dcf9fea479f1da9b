"""The way to the inference processes: requests that come while one is away travel together.

A trip through LitServe's queues costs more than the network does, and costs the same for one window as for thirty. The
windows of a trip are still forecast one by one: so a forecast has the same bits whatever it travelled with.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable

from pregao.api.inference_worker import Rows, Seen, Trip
from pregao.models.trained import Window
from pregao.tracking.registry import Served

MOST_WINDOWS = 32
TRIES = 3
"""A trip is made again if the process that was asked died: a forecast changes nothing, so that twice is as good."""


Ask = Callable[[Trip], Awaitable[list[Rows | None]]]
"""Sends model folders and windows to an inference process; rows come back, None where a folder has no model."""


class Inference:
    """Runs models in inference processes.

    Args:
        ask: makes a trip: model folders and windows there, rows back, None where a folder holds no model any more.
        processes: how many there are; each may have one trip under way and one that waits.
        deadline: seconds for all tries together.
    """

    def __init__(self, ask: Ask, processes: int, deadline: float) -> None:
        self.ask = ask
        self.free = 2 * processes
        self.seconds = deadline / TRIES
        self._waiting: deque[tuple[str, Seen, asyncio.Future[Rows | None]]] = deque()
        self._trips: set[asyncio.Task[None]] = set()

    async def __call__(self, served: Served, window: Window) -> Rows:
        """The model's rows; from this process's own memory, where the model's files are gone."""
        future: asyncio.Future[Rows | None] = asyncio.get_running_loop().create_future()
        seen = (window.closes, window.volatilities, window.width)
        self._waiting.append((os.fspath(served.folder), seen, future))
        self._depart()
        rows = await future
        return await asyncio.to_thread(served.model.rows, window) if rows is None else rows

    def _depart(self) -> None:
        while self.free and self._waiting:
            self.free -= 1
            count = min(len(self._waiting), MOST_WINDOWS)
            passengers = [self._waiting.popleft() for _ in range(count)]
            trip = asyncio.create_task(self._travel(passengers))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)

    async def _travel(self, passengers: list[tuple[str, Seen, asyncio.Future[Rows | None]]]) -> None:
        try:
            present = [passenger for passenger in passengers if not passenger[2].done()]  # some may have gone away
            rows = await self._persist([(folder, seen) for folder, seen, _ in present]) if present else []
            for (_, _, future), found in zip(present, rows, strict=True):
                if not future.done():
                    future.set_result(found)
        except Exception as error:
            for _, _, future in passengers:
                if not future.done():
                    future.set_exception(error)
        finally:
            self.free += 1
            self._depart()

    async def _persist(self, trip: Trip) -> list[Rows | None]:
        for _ in range(TRIES - 1):
            try:
                return await asyncio.wait_for(self.ask(trip), self.seconds)
            except TimeoutError:
                continue
        return await asyncio.wait_for(self.ask(trip), self.seconds)
