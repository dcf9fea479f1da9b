"""What the routes work with, and what runs beside them for as long as the server does."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import Memory
from pregao.api.forecasts import Forecasts
from pregao.api.monitoring import Monitoring
from pregao.api.trainings import Trainings
from pregao.errors import refusal

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0
"""Seconds between tries to load the models."""


@dataclass(frozen=True)
class Service:
    """Forecasts, trainings and counters of the HTTP process."""

    config: ServeConfig
    forecasts: Forecasts
    trainings: Trainings
    monitoring: Monitoring
    memory: Memory

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load what is served while the port is open, follow it, and end with no training left behind."""
        _on_signals(self.trainings.stop)
        work = (self._start(), self.forecasts.watch_the_registry(), self.memory.watch(self.forecasts.prices))
        tasks = [asyncio.create_task(part) for part in work]
        try:
            yield
        finally:
            self.trainings.stop()
            await asyncio.to_thread(self.trainings.close)
            for task in tasks:
                task.cancel()
            self.forecasts.close()
            self.memory.close()

    async def _start(self) -> None:
        while not self.forecasts.ready:
            try:
                await self.forecasts.start()
            except Exception as error:  # whatever it is, the next try may do better, and /health says not ready
                known = refusal(error)
                logger.error("The models are not loaded: %s", known or error, exc_info=None if known else error)
                await asyncio.sleep(min(LONGEST_PAUSE, self.config.poll))


def _on_signals(stop: Callable[[], None]) -> None:
    """Cancel the training as soon as the end is asked for: uvicorn waits for open requests before all else."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        former = signal.getsignal(number)

        def handle(number: int, frame: Any, former: Any = former) -> None:  # noqa: ANN401
            loop.call_soon_threadsafe(stop)
            former(number, frame)

        with suppress(ValueError):  # not the main thread: then nobody sends signals
            signal.signal(number, handle)
