"""The forecasts of the served models, remembered for as long as nothing changes.

What can change: the served model (a file's stamp tells, without a look at the registry), and the prices (at the next
session's close, or after a while where the source was behind). A forecast is computed once for each.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import Memory
from pregao.api.monitoring import Monitoring
from pregao.errors import NoModel, PregaoError, refusal, sentence_for_clients
from pregao.evaluation.drift import Drift
from pregao.forecasting.compose import (
    Forecast,
    dated,
    last_close,
    last_window,
    latest_drift,
    latest_prices,
    refuse_too_few,
    undated,
)
from pregao.models.trained import ModelCard, Window
from pregao.prices import calendar
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import SHARED, Symbol
from pregao.prices.table import PriceBasis
from pregao.settings import settings
from pregao.tracking import registry as tracking
from pregao.tracking.registry import Served

logger = logging.getLogger(__name__)

T = TypeVar("T")

Network = Callable[[Served, Window], Awaitable[list[dict[str, Any]]]]
"""A model's rows for the window that it sees."""

SECONDS_FOR_NEWER_PRICES = 5.0
"""How long a client waits for newer prices, where older ones are at hand."""

SECONDS_AFTER_A_REFUSAL = 30.0
"""How long a source that refused is left alone, at most."""


@dataclass(frozen=True)
class Latest:
    """A stock's past, where it is from, and from when until when it counts as the latest (seconds since the epoch).

    The beginning counts too: a clock that was a year ahead and is set right would else leave it the latest for a year.
    """

    table: pd.DataFrame
    as_of: date
    stale: bool
    since: float
    until: float
    source: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """Why there are no prices, and from when until when the source is not asked again."""

    error: PregaoError
    since: float
    until: float


@dataclass(frozen=True)
class Remembered:
    """An answer, ready to be sent."""

    body: bytes
    served: Served
    since: float
    until: float


PricesKey = tuple[str, PriceBasis, int, str]


class Forecasts:
    """Served models, latest closes and forecasts of this process.

    Args:
        config: the source of prices, the configured stock, how often to look again.
        network: runs a model.
        monitoring: where remembered and computed forecasts are counted.
        memory: where forecasts by stock are kept.
    """

    def __init__(self, config: ServeConfig, network: Network, monitoring: Monitoring, memory: Memory) -> None:
        self.config = config
        self.network = network
        self.monitoring = monitoring
        self.memory = memory
        self.served: dict[str, Served] = {}
        self.problems: dict[str, str] = {}
        self.ready = False
        self._answers: dict[str, Remembered] = {}
        self._prices: dict[PricesKey, Latest | Refused] = {}
        self._windows: dict[str, tuple[Served, pd.DataFrame, Window, Drift | None]] = {}
        self._downloads: dict[PricesKey, asyncio.Task[Latest | Refused]] = {}
        # Their own threads: a source that hangs shall not hold up the registry, nor LitServe, which shares asyncio's.
        self._download_threads = ThreadPoolExecutor(4, "prices")
        self._registry_thread = ThreadPoolExecutor(1, "registry")
        self._window_thread = ThreadPoolExecutor(1, "windows")
        self._changes = os.fspath(tracking.changes())
        self._stamp: object = None
        self._following = asyncio.Lock()
        self._looked = asyncio.Event()

    async def start(self) -> None:
        """Register what is shipped, load what is served, and make sure that a model answers."""
        try:
            await self._in_registry_thread(self._register_shipped)
            await self._follow(self._stamp_now())
        finally:
            self._looked.set()
        for served in self.served.values():
            await self.network(served, served.model.window([1.0] * served.model.card.lookback))
        self.ready = True
        # The first look at a calendar takes as long as a hundred forecasts.
        await asyncio.get_running_loop().run_in_executor(self._download_threads, calendar.next_close, "BVMF")

    def close(self) -> None:
        """Let the threads go; one that waits for a source ends with its process."""
        self._download_threads.shutdown(wait=False, cancel_futures=True)
        self._registry_thread.shutdown(wait=False, cancel_futures=True)
        self._window_thread.shutdown(wait=False, cancel_futures=True)

    def remembered(self, ticker: str) -> bytes | None:
        """The answer for a stock, if nothing has changed since it was made."""
        answer = self._answers.get(ticker)
        if answer is None or not answer.since <= time.time() < answer.until or self._stamp_now() != self._stamp:
            return None
        if self._serving(ticker) is not answer.served:
            return None
        self.monitoring.remembered.inc()
        return answer.body

    def newest_closes(self) -> dict[str, date]:
        """The day of the newest close by ticker, for those that a forecast was asked of."""
        found: dict[str, date] = {}
        for (ticker, *_), known in self._prices.copy().items():
            if isinstance(known, Latest):
                found[ticker] = max(known.as_of, found.get(ticker, known.as_of))
        return found

    async def of_stock(self, symbol: Symbol) -> bytes:
        """The forecast from a stock's latest closes, logged before it is returned.

        Raises:
            NoModel: no version of this stock is served.
            PregaoError: no prices, or too few.
        """
        remembered = self.remembered(symbol.ticker)
        if remembered is not None:
            return remembered
        served = await self.model(symbol)
        latest = await self._latest(symbol, served.model.card)
        window, drift = await self._window(symbol, served, latest)
        rows = dated(await self._rows(served, window), symbol, latest.as_of)
        forecast = Forecast(
            symbol, rows, latest.as_of, latest.stale, served, latest.source, last_close(latest.table), drift
        )
        body = encode(forecast)
        await self.memory.keep(forecast.record)
        self._answers[symbol.ticker] = Remembered(body, served, latest.since, latest.until)
        return body

    async def prices(self, symbol: Symbol, price: PriceBasis) -> pd.DataFrame:
        """A stock's latest closes on a basis.

        Raises:
            PregaoError: no model, or no prices.
        """
        card = (await self.model(symbol)).model.card
        return (await self._latest(symbol, replace(card, price=price))).table

    async def of_closes(self, symbol: Symbol, closes: Sequence[float]) -> bytes:
        """The forecast of what follows these closes.

        Raises:
            NoModel: no version of this stock is served.
            InvalidCloses: fewer than the model needs.
        """
        served = await self.model(symbol)
        window = served.model.window(closes)
        return encode(Forecast(symbol, undated(await self._rows(served, window)), None, False, served))

    async def model(self, symbol: Symbol) -> Served:
        """The stock's served model, or the shared one, after every change that this machine has announced.

        Raises:
            NoModel: there is neither.
        """
        await self._looked.wait()  # the port is open before it is known what is served: "no model" would be untrue
        stamp = self._stamp_now()
        if stamp != self._stamp:
            await self._follow(stamp)
        served = self._serving(symbol.ticker)
        if served is None:
            raise NoModel(symbol, sorted(self.served))
        return served

    async def watch_the_registry(self) -> None:
        """Look now and then for what other machines change; never ends."""
        while True:
            await asyncio.sleep(self.config.poll)
            await self._follow(None)

    def _serving(self, ticker: str) -> Served | None:
        return self.served.get(ticker) or self.served.get(SHARED)

    async def _window(self, symbol: Symbol, served: Served, latest: Latest) -> tuple[Window, Drift | None]:
        """The window at the end of the latest prices, with the online width of its bands; and the drift there."""
        kept = self._windows.get(symbol.ticker)
        if kept is None or kept[0] is not served or kept[1] is not latest.table:
            work = partial(_seen, served, symbol, latest.table)
            window, drift = await asyncio.get_running_loop().run_in_executor(self._window_thread, work)
            kept = self._windows[symbol.ticker] = (served, latest.table, window, drift)
            if drift is not None:
                self.monitoring.drift.labels(symbol.ticker).set(drift.score)
        return kept[2:]

    async def _rows(self, served: Served, window: Window) -> list[dict[str, Any]]:
        self.monitoring.computed.inc()
        return await self.network(served, window)

    def _stamp_now(self) -> object:
        try:
            found = os.stat(self._changes)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    async def _follow(self, stamp: object) -> None:
        """Load what the registry says now, unless another request has just done so for the same stamp."""
        async with self._following:
            if stamp is not None and stamp == self._stamp:
                return
            now = self._stamp_now()  # before the look: what is announced during it is followed next
            self.served, self.problems = await self._in_registry_thread(self._look)
            self._stamp = now

    async def _in_registry_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._registry_thread, work)

    def _register_shipped(self) -> None:
        for stock in tracking.shipped_stocks():
            with suppress(PregaoError):  # said again, and kept for /health, by the look that follows
                tracking.champion(Symbol.parse(stock))

    def _look(self) -> tuple[dict[str, Served], dict[str, str]]:
        """The served models; where the registry fails, those that are in memory, and why."""
        try:
            _refuse_a_lost_database()
            champions = tracking.champions()
        except Exception as error:  # of MLflow, SQLAlchemy, the network: a server goes on with what it has
            return dict(self.served), {"registry": self._problem("The registry cannot be read", error)}
        served, problems, former_ones = dict(self.served), {}, set(self.served)
        for stock, (version, run_id) in champions.items():
            former = served.get(stock)
            if former is not None and (former.version, former.run_id) == (version, run_id):
                continue
            try:
                served[stock] = tracking.load(Symbol.parse(stock), version)
            except Exception as error:
                problems[stock] = self._problem(f"{stock} version {version} cannot be loaded", error)
        for stock in set(tracking.shipped_stocks()) - champions.keys() - served.keys():
            try:  # what kept it from being registered when the server started may be over
                served[stock] = tracking.champion(Symbol.parse(stock))
            except Exception as error:
                problems[stock] = self._problem(f"{stock}, which ships, cannot be registered", error)
        for stock in former_ones - champions.keys():
            problems[stock] = f"{stock}: the registry has no champion any more; the one in memory is served."
        return served, problems

    def _problem(self, what: str, error: Exception) -> str:
        refused = refusal(error)
        told = f"{what}: {refused if refused else type(error).__name__}. What is in memory is served."
        if told not in self.problems.values():
            logger.warning("%s", told)
        return sentence_for_clients(told)

    async def _latest(self, symbol: Symbol, card: ModelCard) -> Latest:
        """The latest closes; older ones, marked as stale, where newer ones take long or cannot be had."""
        key = (symbol.ticker, card.price, card.lookback, card.validation_start)
        kept = self._prices.get(key)
        if kept is not None and kept.since <= time.time() < kept.until:
            return _or_raise(kept)
        download = self._downloads.get(key)
        if download is None:
            download = self._downloads[key] = asyncio.create_task(self._download(key, symbol, card))
        if not isinstance(kept, Latest):
            return _or_raise(await asyncio.shield(download))
        await asyncio.wait({download}, timeout=0 if kept.stale else SECONDS_FOR_NEWER_PRICES)
        if download.done():
            return _or_raise(download.result())
        return replace(kept, stale=True, until=0.0)  # not remembered: the next request looks again

    async def _download(self, key: PricesKey, symbol: Symbol, card: ModelCard) -> Latest | Refused:
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._download_threads, self._ask, symbol, card)
            # A new model may need more of the past; where there is no more, what the former one needed will do.
            same = [other for other in self._prices if other[:2] == key[:2]]
            former = [kept for kept in map(self._prices.pop, same) if isinstance(kept, Latest)]
            if isinstance(found, Refused) and former:
                source = former[-1].source | {"reasons": [sentence_for_clients(str(found.error))]}
                found = replace(former[-1], stale=True, since=found.since, until=found.until, source=source)
            self._prices[key] = found
            return found
        finally:
            del self._downloads[key]

    def _ask(self, symbol: Symbol, card: ModelCard) -> Latest | Refused:
        source, now = self.config.source, time.time()
        try:
            prices = latest_prices(Downloader(source.name, source.path, card.price), symbol, card)
            refuse_too_few(symbol, prices.table, card.lookback)
        except PregaoError as error:
            return Refused(error, now, now + min(self.config.retry, SECONDS_AFTER_A_REFUSAL))
        behind = prices.stale or prices.as_of < calendar.last_finished_session(symbol.calendar)
        until = calendar.next_close(symbol.calendar).timestamp()
        source_told = prices.told | {"reasons": [sentence_for_clients(reason) for reason in prices.tried]}
        if behind:
            until = min(until, now + self.config.retry)
        return Latest(prices.table, prices.as_of, prices.stale, now, until, source_told)


def encode(forecast: Forecast) -> bytes:
    """The answer of POST /predict."""
    prices = ", ".join(f"{row['close']:.2f}" for row in forecast.rows)
    return json.dumps(forecast.as_json() | {"preco": f"[{prices}]"}, allow_nan=False).encode()


def _seen(served: Served, symbol: Symbol, prices: pd.DataFrame) -> tuple[Window, Drift | None]:
    return last_window(served.model, symbol, prices), latest_drift(served.model.card, symbol, prices)


def _or_raise(found: Latest | Refused) -> Latest:
    if isinstance(found, Refused):
        raise found.error
    return found


def _refuse_a_lost_database() -> None:
    """Looking into a database that is gone would make a new, empty one."""
    file = settings().tracking_uri.removeprefix("sqlite:///")
    if file != settings().tracking_uri and not os.path.exists(file):
        raise FileNotFoundError(file)
