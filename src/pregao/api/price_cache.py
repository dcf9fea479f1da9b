"""The latest prices of each stock: downloaded once, kept until the next session's close or the next try."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

from pregao.config import SourceChoices
from pregao.errors import PregaoError, sentence_for_clients
from pregao.forecasting.compose import latest_prices
from pregao.models.trained import ModelCard
from pregao.prices import calendar
from pregao.prices.downloader import Downloader, Prices
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis

SECONDS_FOR_NEWER_PRICES = 5.0
"""How long a client waits for newer prices, where older ones are in memory."""

SECONDS_AFTER_A_REFUSAL = 30.0
"""How long a source that refused is not asked again, at most."""

Key = tuple[str, PriceBasis, int, str]
"""Ticker, price basis, lookback and first session that a model needs."""


@dataclass(frozen=True)
class Latest:
    """A source's answer, and the time (seconds since the epoch) in which it counts as the latest.

    The start counts too: a clock that was a year ahead and is set right would else keep an answer for a year.
    """

    answer: Prices | PregaoError
    since: float
    until: float

    @property
    def fresh(self) -> bool:
        """Whether it counts as the latest now."""
        return self.since <= time.time() < self.until

    @property
    def prices(self) -> Prices:
        """The prices.

        Raises:
            PregaoError: the source's refusal.
        """
        if isinstance(self.answer, PregaoError):
            raise self.answer.with_traceback(None)
        return self.answer


class PriceCache:
    """Latest prices by stock and basis.

    Args:
        source: where prices come from.
        retry: seconds until stale or missing prices are asked for again.

    Raises:
        InvalidChoice: a source that is not allowed.
    """

    def __init__(self, source: SourceChoices, retry: float) -> None:
        Downloader(source.name, source.path)  # refuses a wrong choice at the start
        self.source = source
        self.retry = retry
        self._kept: dict[Key, Latest] = {}
        self._downloads: dict[Key, asyncio.Task[Latest]] = {}
        # Threads apart: a source that hangs must not hold up LitServe, which shares asyncio's threads.
        self._threads = ThreadPoolExecutor(4, "prices")

    async def warm_up(self) -> None:
        """Load a calendar: the first time takes as long as a hundred forecasts."""
        await asyncio.get_running_loop().run_in_executor(self._threads, calendar.next_close, "BVMF")

    async def latest(self, symbol: Symbol, card: ModelCard) -> Latest:
        """The latest prices, or a refusal; older prices, marked as stale, where newer ones take long or are refused."""
        key = (symbol.ticker, card.price, card.lookback, card.validation_start)
        kept = self._kept.get(key)
        if kept is not None and kept.fresh:
            return kept
        download = self._downloads.get(key)
        if download is None:
            download = self._downloads[key] = asyncio.create_task(self._download(key, symbol, card))
        if kept is None or isinstance(kept.answer, PregaoError):
            return await asyncio.shield(download)
        await asyncio.wait({download}, timeout=0 if kept.answer.stale else SECONDS_FOR_NEWER_PRICES)
        if download.done():
            return download.result()
        return replace(kept, answer=replace(kept.answer, stale=True), until=0.0)  # the next request looks again

    def newest_closes(self) -> dict[str, date]:
        """The day of the newest close by ticker, of the stocks whose forecast was asked for."""
        found: dict[str, date] = {}
        for (ticker, *_), kept in self._kept.copy().items():
            if isinstance(kept.answer, Prices):
                found[ticker] = max(kept.answer.as_of, found.get(ticker, kept.answer.as_of))
        return found

    def close(self) -> None:
        """Stop the threads; one that waits for a source ends with its process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _download(self, key: Key, symbol: Symbol, card: ModelCard) -> Latest:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, symbol, card)
            # A new model may need more of the past; where the source refuses, the prices of the previous one are used.
            previous = [self._kept.pop(other) for other in list(self._kept) if other[:2] == key[:2]]
            usable = [kept.answer for kept in previous if isinstance(kept.answer, Prices)]
            if isinstance(found.answer, PregaoError) and usable:
                reason = sentence_for_clients(str(found.answer))
                found = replace(found, answer=replace(usable[-1], stale=True, tried=(reason,)))
            self._kept[key] = found
            return found
        finally:
            del self._downloads[key]

    def _ask(self, symbol: Symbol, card: ModelCard) -> Latest:
        now = time.time()
        try:
            prices = latest_prices(Downloader(self.source.name, self.source.path, card.price), symbol, card)
        except PregaoError as error:
            return Latest(error, now, now + min(self.retry, SECONDS_AFTER_A_REFUSAL))
        until = calendar.next_close(symbol.calendar).timestamp()
        if prices.stale or prices.as_of < calendar.last_finished_session(symbol.calendar):
            until = min(until, now + self.retry)
        reasons = tuple(sentence_for_clients(reason) for reason in prices.tried)
        return Latest(replace(prices, tried=reasons), now, until)
