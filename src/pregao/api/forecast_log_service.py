"""The log of forecasts for asyncio: a forecast is logged before its response, and scored once its closes are known."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import pandas as pd

from pregao.api.monitoring import Monitoring
from pregao.errors import ForecastsUnavailable, PregaoError
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.log import Record
from pregao.forecasting.writer import ForecastWriter
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis

logger = logging.getLogger(__name__)

T = TypeVar("T")

PricesOf = Callable[[Symbol, PriceBasis], Awaitable[pd.DataFrame]]
"""A stock's latest closes on a price basis."""


class ForecastLogService:
    """The log of forecasts of one HTTP process.

    Args:
        poll: seconds between checks for new closes.
        monitoring: shows the scores.
    """

    def __init__(self, poll: float, monitoring: Monitoring) -> None:
        self.poll = poll
        self.monitoring = monitoring
        self.writer = ForecastWriter()
        self._settled: dict[tuple[str, PriceBasis], date] = {}
        self._scored: tuple[date, int] | None = None
        # Two threads: a read does not wait for a write.
        self._write_thread = ThreadPoolExecutor(1, "forecast writer")
        self._read_thread = ThreadPoolExecutor(1, "accuracy")

    async def write(self, record: Record) -> bool:
        """Write a forecast; returns whether it is in the log."""
        written = await self._in_thread(self._write_thread, self.writer.write, record)
        self.monitoring.waiting.set(self.writer.waiting)
        return written

    async def accuracy(self, stock: str | None) -> bytes:
        """The JSON of GET /accuracy, encoded in the thread too; see `pregao.forecasting.accuracy`.

        Raises:
            ForecastsUnavailable: the log does not answer.
        """
        return await self._in_thread(self._read_thread, self._accuracy, stock)

    async def watch(self, prices_of: PricesOf) -> None:
        """Write waiting forecasts, and score those whose closes are known; never ends."""
        while True:
            try:
                await self._update(prices_of)
            except ForecastsUnavailable:
                pass  # the writer has logged it
            except Exception:
                logger.exception("The past forecasts were not scored.")
            await asyncio.sleep(self.poll)

    def close(self) -> None:
        """Stop the threads."""
        for thread in (self._write_thread, self._read_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    async def _update(self, prices_of: PricesOf) -> None:
        await self._in_thread(self._write_thread, self.writer.retry)
        self.monitoring.waiting.set(self.writer.waiting)
        due = await self._in_thread(self._read_thread, self.writer.log.due, datetime.now(UTC).date())
        for stock, price in due:
            with suppress(PregaoError):  # no prices now: retried at the next update
                await self._settle(stock, price, await prices_of(Symbol.parse(stock), price))
        scored = await self._in_thread(self._read_thread, self.writer.log.last_settled)
        if scored != self._scored:  # by this process or by another one
            for entry in await self._in_thread(self._read_thread, self._scores, None, True):
                self.monitoring.live(entry)
            self._scored = scored

    def _accuracy(self, stock: str | None) -> bytes:
        # One call for all of them would hold Python's lock, and so the event loop, until its end.
        entries = ", ".join(json.dumps(entry, allow_nan=False) for entry in self._scores(stock))
        return f'{{"accuracy": [{entries}], "waiting": {self.writer.waiting}}}'.encode()

    def _scores(self, stock: str | None, newest: bool = False) -> list[dict[str, Any]]:
        return accuracy(self.writer.log.outcomes(stock, newest))

    async def _settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> None:
        last = prices["date"].iloc[-1].date()
        if self._settled.get((stock, price)) == last:
            return  # these closes were used before
        await self._in_thread(self._write_thread, self.writer.settle, stock, price, prices)
        self._settled[stock, price] = last

    async def _in_thread(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
