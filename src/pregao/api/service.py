"""The state of the HTTP process, and its background tasks."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import ForecastLogService
from pregao.api.forecasts import Forecasts
from pregao.api.monitoring import Monitoring
from pregao.api.trainings import Trainings
from pregao.errors import refusal
from pregao.tracking.run_table import Page, statistics

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
    log: ForecastLogService
    # Few threads, which asyncio does not use: an MLflow that hangs keeps them until its time limit.
    _statistics_threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "statistics"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the served models while the port is open, follow their changes, and cancel a training at the end."""
        _on_signals(self.trainings.stop)
        work = (
            self._start(),
            self.forecasts.registry.watch(self.config.poll),
            self.log.watch(self.forecasts.latest_prices),
        )
        tasks = [asyncio.create_task(part) for part in work]
        try:
            yield
        finally:
            self.trainings.stop()
            await asyncio.to_thread(self.trainings.close)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.forecasts.close()
            self.log.close()
            self._statistics_threads.shutdown(wait=False, cancel_futures=True)

    async def statistics(self, page: Page) -> bytes:
        """The JSON of GET /statistics.

        Raises:
            TrackingUnavailable: MLflow does not answer.
            InvalidChoice: the page's token is not valid.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._statistics_threads, lambda: "".join(statistics(page)).encode())

    async def _start(self) -> None:
        while not self.forecasts.ready:
            try:
                await self.forecasts.start()
            except Exception as error:  # retried; until then /health returns 503
                known = refusal(error)
                logger.error("The models are not loaded: %s", known or error, exc_info=None if known else error)
                await asyncio.sleep(min(LONGEST_PAUSE, self.config.poll))


def _on_signals(stop: Callable[[], None]) -> None:
    """Cancel the training when the signal arrives: uvicorn first waits for open requests."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(number: int, frame: Any, previous: Any = previous) -> None:  # noqa: ANN401
            loop.call_soon_threadsafe(stop)
            previous(number, frame)

        with suppress(ValueError):  # only the main thread gets signals
            signal.signal(number, handle)
