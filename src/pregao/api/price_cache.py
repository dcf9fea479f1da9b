"""The latest prices of each stock, kept until the next session's close or the next try."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

from cachetools import TTLCache

from pregao.config import SourceChoices
from pregao.errors import PregaoError, sentence_for_clients
from pregao.forecasting.compose import latest_prices
from pregao.models.card import ModelCard
from pregao.prices import calendar
from pregao.prices.downloader import Downloader, Prices
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis

SECONDS_FOR_NEWER_PRICES = 5.0
"""How long a request waits for newer prices where older ones are in memory."""

SECONDS_AFTER_A_REFUSAL = 30.0
"""The maximum time between two requests to a source that has refused."""

MOST_REFUSALS = 1000
"""Refusals in memory: clients may ask for any number of tickers."""

Key = tuple[str, PriceBasis, int, str]
"""Ticker, price basis, lookback and first session that a model needs."""


@dataclass(frozen=True)
class Latest:
    """A source's answer, fresh from `since` until `until` (seconds since the epoch).

    Without `since`, an answer of a clock that was a year ahead would be kept for a year after its correction.
    """

    answer: Prices | PregaoError
    since: float
    until: float

    @property
    def fresh(self) -> bool:
        """Whether it is fresh now."""
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
        source: of the prices.
        retry: seconds until stale or missing prices are requested again.

    Raises:
        InvalidChoice: a source that is not allowed.
    """

    def __init__(self, source: SourceChoices, retry: float) -> None:
        Downloader(source.name, source.path)  # raises for a wrong choice
        self.source = source
        self.retry = retry
        self._kept: dict[Key, Latest] = {}
        self._refused: TTLCache[Key, Latest] = TTLCache(MOST_REFUSALS, SECONDS_AFTER_A_REFUSAL)
        self._downloads: dict[Key, asyncio.Task[Latest]] = {}
        # Separate threads: a source that hangs must not block asyncio's, which LitServe uses too.
        self._threads = ThreadPoolExecutor(4, "prices")

    async def warm_up(self) -> None:
        """Load a calendar, which takes as long as a hundred forecasts."""
        await asyncio.get_running_loop().run_in_executor(self._threads, calendar.next_close, "BVMF")

    async def latest(self, symbol: Symbol, card: ModelCard) -> Latest:
        """The latest prices or a refusal; older prices, marked as stale, where newer ones are late or refused."""
        key = (symbol.ticker, card.price, card.lookback, card.validation_start)
        kept = self._kept.get(key) or self._refused.get(key)
        if kept is not None and kept.fresh:
            return kept
        download = self._downloads.get(key)
        if download is None:
            download = self._downloads[key] = asyncio.create_task(self._download(key, symbol, card))
        if kept is None or isinstance(kept.answer, PregaoError):
            return await asyncio.shield(download)
        failed_before = kept.answer.stale and kept.answer.tried  # stale alone: the source answers, but ended long ago
        await asyncio.wait({download}, timeout=0 if failed_before else SECONDS_FOR_NEWER_PRICES)
        if download.done():
            return download.result()
        return replace(kept, answer=replace(kept.answer, stale=True), until=0.0)  # the next request tries again

    def newest_closes(self) -> dict[str, date]:
        """The day of the newest close of each requested ticker."""
        found: dict[str, date] = {}
        for (ticker, *_), kept in self._kept.copy().items():
            if isinstance(kept.answer, Prices):
                found[ticker] = max(kept.answer.as_of, found.get(ticker, kept.answer.as_of))
        return found

    def close(self) -> None:
        """Stop the threads; a thread that waits for a source ends with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _download(self, key: Key, symbol: Symbol, card: ModelCard) -> Latest:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, symbol, card)
            # A new model may need a longer history; if the source refuses, the history of the previous one is used.
            previous = [self._kept.pop(other) for other in list(self._kept) if other[:2] == key[:2]]
            usable = [kept.answer for kept in previous if isinstance(kept.answer, Prices)]
            if isinstance(found.answer, PregaoError) and usable:
                reason = sentence_for_clients(str(found.answer))
                found = replace(found, answer=replace(usable[-1], stale=True, tried=(reason,)))
            (self._refused if isinstance(found.answer, PregaoError) else self._kept)[key] = found
            return found
        finally:
            del self._downloads[key]

    def _fetch(self, symbol: Symbol, card: ModelCard) -> Latest:
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
