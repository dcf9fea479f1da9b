"""The forecasts of the served models, cached until the model or the prices change."""

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import ForecastLogService
from pregao.api.monitoring import Monitoring
from pregao.api.panel_prices import PanelPrices
from pregao.api.price_cache import SECONDS_FOR_NEWER_PRICES, PriceCache
from pregao.api.registry_watcher import RegistryWatcher, RemoteServed
from pregao.api.remote_model import Infer
from pregao.errors import PregaoError
from pregao.forecasting.compose import (
    Forecast,
    Origin,
    compose_forecast,
    compose_forecast_of_closes,
    last_origin,
    with_history,
)
from pregao.forecasting.writer import SECONDS_BETWEEN_TRIES
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis


@dataclass(frozen=True)
class Answer:
    """A response as JSON, valid from `since` until `until` (seconds since the epoch), until the panel is refreshed."""

    body: bytes
    served: RemoteServed
    panel: int
    since: float
    until: float


class Forecasts:
    """Forecasts of the served models from the latest prices.

    Args:
        config: the source of prices, and the time between its requests.
        infer: runs models in inference processes.
        monitoring: counts cached and computed forecasts.
        log: takes the forecasts by stock.
    """

    def __init__(self, config: ServeConfig, infer: Infer, monitoring: Monitoring, log: ForecastLogService) -> None:
        self.monitoring = monitoring
        self.log = log
        self.registry = RegistryWatcher(infer)
        self.prices = PriceCache(config.source, config.retry)
        self.panel = PanelPrices(config.source, config.retry, self.panel_stocks)
        self.ready = False
        self._answers: dict[str, Answer] = {}
        self._origins: dict[str, tuple[RemoteServed, pd.DataFrame, int, Origin]] = {}
        self._origin_thread = ThreadPoolExecutor(1, "origins")

    async def start(self) -> None:
        """Load the served models, and check that each returns a forecast."""
        await self.registry.start()
        for served in self.registry.served.values():
            await served.model.forecast_closes([1.0] * served.model.card.lookback)
        self.ready = True
        await self.prices.warm_up()
        self.panel.start()

    def panel_stocks(self) -> set[str]:
        """The stocks whose market measures the served models use."""
        markets = [served.model.market for served in self.registry.served.values()]
        return {stock for market in markets if market is not None for stock in market.stocks}

    def close(self) -> None:
        """Stop the threads."""
        self.registry.close()
        self.prices.close()
        self.panel.close()
        self._origin_thread.shutdown(wait=False, cancel_futures=True)

    def cached_answer(self, ticker: str) -> bytes | None:
        """The stored response for a stock, if neither its model nor its prices nor the panel's have changed."""
        answer = self._answers.get(ticker)
        if answer is None or not answer.since <= time.time() < answer.until or self.registry.changed():
            return None
        if self.registry.in_memory(ticker) is not answer.served or self.panel.refreshed != answer.panel:
            return None
        self.monitoring.remembered.inc()
        return answer.body

    async def of_stock(self, symbol: Symbol, version: int | None = None) -> bytes:
        """The forecast from a stock's latest closes, logged before it is returned.

        Args:
            symbol: the stock.
            version: of its model; None for the served one.

        Raises:
            NoSuchVersion: the stock has no such version.
            NotReady: the version's ONNX model is being made.
            NoModel: neither a model of this stock nor the shared model is served.
            PregaoError: the stock has no prices, or too few.
        """
        cached = self.cached_answer(symbol.ticker) if version is None else None
        if cached is not None:
            return cached
        served = await self._served(symbol, version)
        latest = await self.prices.latest(symbol, served.model.card)
        panel = self.panel.refreshed
        origin = await self._origin(symbol, served, latest.prices.table)
        self.monitoring.computed.inc()
        rows = await served.model.forecast_window(origin.window)
        forecast = compose_forecast(symbol, served, rows, latest.prices, origin.market)
        if forecast.drift is not None:
            self.monitoring.drift.labels(symbol.ticker).set(forecast.drift.score)
        recorded = await self.log.write(forecast.record)
        body = encode(replace(forecast, recorded=recorded))
        until = latest.until if recorded else min(latest.until, time.time() + SECONDS_BETWEEN_TRIES)
        if version is None:
            self._answers[symbol.ticker] = Answer(body, served, panel, latest.since, until)
        return body

    async def of_closes(
        self, symbol: Symbol, closes: Sequence[float], named: bool, version: int | None = None
    ) -> bytes:
        """The forecast after these closes; the history of a `named` stock gives volatilities and the online width.

        Raises:
            NoModel: neither a model of this stock nor the shared model is served.
            NoSuchVersion: the stock has no such version.
            NotReady: the version's ONNX model is being made.
            InvalidCloses: fewer closes than the model needs.
        """
        served = await self._served(symbol, version)
        history = await self._history(symbol, served) if named else None
        self.monitoring.computed.inc()
        if history is None:
            rows = await served.model.forecast_closes(closes)
        else:
            rows = await served.model.forecast_window(with_history(served.model.window(closes), history))
        return encode(compose_forecast_of_closes(symbol, served, rows, closes, history))

    async def _served(self, symbol: Symbol, version: int | None) -> RemoteServed:
        return await (self.registry.model(symbol) if version is None else self.registry.version(symbol, version))

    async def latest_prices(self, symbol: Symbol, price: PriceBasis) -> pd.DataFrame:
        """A stock's latest prices on a basis.

        Raises:
            PregaoError: the stock has no model or no prices.
        """
        card = (await self.registry.model(symbol)).model.card
        return (await self.prices.latest(symbol, replace(card, price=price))).prices.table

    async def _history(self, symbol: Symbol, served: RemoteServed) -> Origin | None:
        """The origin at the end of a stock's history; None if it is not available in time."""
        try:
            latest = await asyncio.wait_for(
                self.prices.latest(symbol, served.model.card), timeout=SECONDS_FOR_NEWER_PRICES
            )
            return await self._origin(symbol, served, latest.prices.table)
        except (PregaoError, TimeoutError):
            return None

    async def _origin(self, symbol: Symbol, served: RemoteServed, prices: pd.DataFrame) -> Origin:
        """The origin at the end of the prices, with the online width and the market measures of that day."""
        known, panel = self._origins.get(symbol.ticker), self.panel.refreshed
        if known is not None and known[0] is served and known[1] is prices and known[2] == panel:
            return known[3]
        work = partial(last_origin, served.model, symbol, prices, self.panel.folder)
        origin = await asyncio.get_running_loop().run_in_executor(self._origin_thread, work)
        self._origins[symbol.ticker] = served, prices, panel, origin
        return origin


def encode(forecast: Forecast) -> bytes:
    """The JSON of POST /predict."""
    prices = ", ".join(f"{row['close']:.2f}" for row in forecast.rows)
    return json.dumps(forecast.as_json() | {"preco": f"[{prices}]"}, allow_nan=False).encode()
