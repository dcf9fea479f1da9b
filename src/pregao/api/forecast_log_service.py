"""The memory of forecasts, for asyncio: each is written down before it is told, and scored when its closes come."""

import asyncio
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
from pregao.forecasting.writer import Keeper
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis

logger = logging.getLogger(__name__)

T = TypeVar("T")

PricesOf = Callable[[Symbol, PriceBasis], Awaitable[pd.DataFrame]]


class Memory:
    """The log of forecasts of one HTTP process.

    Args:
        poll: seconds between looks at what may have come.
        monitoring: where its figures are shown.
    """

    def __init__(self, poll: float, monitoring: Monitoring) -> None:
        self.poll = poll
        self.monitoring = monitoring
        self.keeper = Keeper()
        self._settled: dict[tuple[str, PriceBasis], date] = {}
        # The keeper is for one thread; who reads the log does not wait for it.
        self._writer = ThreadPoolExecutor(1, "keeper")
        self._reader = ThreadPoolExecutor(1, "accuracy")

    async def keep(self, record: Record) -> None:
        """Write a forecast down."""
        await self._in_thread(self._writer, self.keeper.keep, record)
        self.monitoring.waiting.set(self.keeper.waiting)

    async def accuracy(self, stock: str | None) -> list[dict[str, Any]]:
        """See evaluation/live.py.

        Raises:
            ForecastsUnavailable: the log does not answer.
        """
        return accuracy(await self._in_thread(self._reader, self.keeper.log.outcomes, stock))

    async def watch(self, prices_of: PricesOf) -> None:
        """Bring to the log what it missed, and score what has come; never ends."""
        while True:
            try:
                await self._look(prices_of)
            except ForecastsUnavailable:
                pass  # the keeper has said so
            except Exception:
                logger.exception("The past forecasts were not scored.")
            await asyncio.sleep(self.poll)

    def close(self) -> None:
        """Let the threads go."""
        for threads in (self._writer, self._reader):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self, prices_of: PricesOf) -> None:
        await self._in_thread(self._writer, self.keeper.retry)
        self.monitoring.waiting.set(self.keeper.waiting)
        due = await self._in_thread(self._reader, self.keeper.log.due, datetime.now(UTC).date())
        for stock, price in due:
            with suppress(PregaoError):  # no prices now: they will be asked for again
                await self._settle(stock, price, await prices_of(Symbol.parse(stock), price))
        for entry in await self.accuracy(None):
            self.monitoring.live(entry)

    async def _settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> None:
        last = prices["date"].iloc[-1].date()
        if self._settled.get((stock, price)) == last:
            return  # what it could tell, it has told
        await self._in_thread(self._writer, self.keeper.settle, stock, price, prices)
        self._settled[stock, price] = last

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
