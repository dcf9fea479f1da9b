"""The forecast of a served model, from a stock's latest prices or from given closes; every caller uses this code."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pregao.data.volatility import SPAN
from pregao.errors import InvalidCloses, NoModel, PregaoError
from pregao.evaluation.drift import DriftReport, drift
from pregao.forecasting.historical import latest_window
from pregao.forecasting.log import Record
from pregao.forecasting.market import MarketAge, market_age, panel_folder, with_stored_prices
from pregao.forecasting.writer import ForecastWriter
from pregao.models.card import ModelCard
from pregao.models.forecaster import Forecaster, Window
from pregao.prices.calendar import last_finished_session, next_sessions, sessions
from pregao.prices.downloader import SESSIONS_WITHOUT_A_TRADE, Downloader, Prices
from pregao.prices.symbols import SHARED, Symbol
from pregao.quantiles import PRICES
from pregao.tracking import registry
from pregao.tracking.registry import Served

logger = logging.getLogger(__name__)

OF_BARE_CLOSES = (
    "On stocks that the default model was not trained on, its 90 % band held 92.2, 91.9 and 91.4 % of the next closes, "
    "given 20, 60 and 250 closes (86 to 96 % by stock); its pinball loss was not above EWMA's."
)
"""From benchmarks/bare_closes.md."""

Rows = list[dict[str, Any]]
"""`step close lower_80 upper_80 lower_90 upper_90`, one per session, in the stock's currency."""


@dataclass(frozen=True)
class GivenCloses:
    """The origin of a forecast from given closes.

    Attributes:
        used: number of closes that the forecast depends on.
        history: whether the stock's history gives volatilities and the width of the bands.
        note: a sentence on what they give.
    """

    used: int
    history: bool
    note: str


@dataclass(frozen=True)
class Origin:
    """The origin of a forecast from a history.

    Attributes:
        window: the model's inputs.
        market: age of the market measures in it; None for a model without them.
    """

    window: Window
    market: MarketAge | None


@dataclass(frozen=True)
class Forecast:
    """The next closes of a stock.

    Attributes:
        symbol: the stock.
        served: the model.
        rows: with the `date` of each session; None for given closes.
        prices: the latest prices; None for given closes.
        drift: distance between the latest returns and those of the training part; None where it is unknown.
        recorded: whether the forecast is in the log; None for a forecast that is not logged.
        closes: what given closes gave; None for the latest prices.
        market: age of the market measures; None for a model without them, and for closes without a history.

    Raises:
        InvalidCloses: the forecast from the closes is not a finite price.
    """

    symbol: Symbol
    served: Served
    rows: Rows
    prices: Prices | None = None
    drift: DriftReport | None = None
    recorded: bool | None = None
    closes: GivenCloses | None = None
    market: MarketAge | None = None

    def __post_init__(self) -> None:
        values = (row[name] for row in self.rows for name in PRICES)
        if not all(0 < price < math.inf for price in values):
            raise InvalidCloses(
                f"{self.symbol}: the forecast from these closes is not a finite positive price. "
                "Check their unit and their decimal points."
            )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    @property
    def as_of(self) -> date | None:
        """The day of the last close that was used; None for given closes."""
        return None if self.prices is None else self.prices.as_of

    @property
    def stale(self) -> bool:
        """Whether newer closes may exist, since no source answered."""
        return self.prices is not None and self.prices.stale

    @cached_property
    def age(self) -> int | None:
        """Finished sessions after the last close that was used; None for given closes."""
        if self.as_of is None:
            return None
        market = self.symbol.calendar
        return max(0, len(sessions(market, self.as_of, last_finished_session(market))) - 1)

    @property
    def warning(self) -> str | None:
        """A sentence on closes older than five sessions, whatever their source; else None."""
        if self.prices is None or self.age is None or self.age <= SESSIONS_WITHOUT_A_TRADE:
            return None
        return (
            f"The last close of {self.symbol} is of {self.as_of}, {self.age} sessions before the last finished one "
            f"(source: {self.prices.source}). The forecast is for the sessions after it. Get newer prices, or check "
            "whether the stock is still traded."
        )

    @property
    def record(self) -> Record:
        """The forecast as an entry of the log."""
        assert self.prices is not None, "given closes have no dates, so they are never scored"
        return Record(
            stock=self.symbol.ticker,
            model=self.served.stock,
            version=self.served.version,
            run_id=self.served.run_id,
            as_of=self.prices.as_of,
            price=self.served.model.card.price,
            last_close=float(self.prices.table["close"].iloc[-1]),
            rows=self.rows,
        )

    def as_json(self) -> dict[str, Any]:
        """The forecast under the names of POST /predict."""
        card = self.served.model.card
        return {
            "stock": self.symbol.ticker,
            "prediction": self.rows[0]["close"],
            "forecast": [row | {"date": iso(row["date"])} for row in self.rows],
            "as_of": iso(self.as_of),
            "stale": self.stale,
            "age": self.age,
            "warning": self.warning,
            "range": None if self.prices is None else self.prices.range_as_dict,
            "recorded": self.recorded,
            "source": None if self.prices is None else self.prices.source_as_dict,
            "closes": None if self.closes is None else asdict(self.closes),
            "market": None if self.market is None else asdict(self.market) | {"as_of": iso(self.market.as_of)},
            "model": {
                "stock": self.served.stock,
                "version": self.served.version,
                "run_id": self.served.run_id,
                "trained_at": card.trained_at,
                "skill_mape": card.metrics.get("skill_mape"),
            },
            "drift": None if self.drift is None else asdict(self.drift),
        }


def compose_forecast(
    symbol: Symbol, served: Served, rows: Rows, prices: Prices | None = None, market: MarketAge | None = None
) -> Forecast:
    """The forecast of a served model, for the command line, the API and the dashboard.

    Args:
        symbol: the stock.
        served: the stock's model, or the shared one.
        rows: the model's, for the last window of the prices or of given closes.
        prices: the latest prices; None for given closes, whose days are unknown.
        market: age of the market measures in the window.

    Raises:
        InvalidCloses: the forecast from the closes is not a finite price.
    """
    if prices is None:
        return Forecast(symbol, served, [{"date": None, **row} for row in rows], market=market)
    training_returns = served.model.card.returns.get(symbol.ticker)
    dated = with_dates(rows, symbol, prices.as_of)
    drifted = drift(training_returns, prices.table["close"].to_numpy())
    return Forecast(symbol, served, dated, prices, drifted, market=market)


def forecast_stock(
    stock: str,
    source: str = "auto",
    path: Path | None = None,
    writer: ForecastWriter | None = None,
    version: int | None = None,
) -> Forecast:
    """The forecast from the stock's latest prices.

    Args:
        stock: VALE3 or VALE3.SA.
        source: a name that `Downloader` knows.
        path: of the source's files.
        writer: logs the forecast, and scores the stock's past forecasts; None logs nothing.
        version: of the stock's model; None for the served one.

    Raises:
        NoModel: neither a model of this stock nor the shared model is served.
        NoSuchVersion: the stock has no such version.
        PregaoError: the stock has no prices, or too few.
    """
    symbol = Symbol.parse(stock)
    served = served_model(symbol, version)
    card = served.model.card
    prices = latest_prices(Downloader(source, path, card.price), symbol, card)
    origin = last_origin(served.model, symbol, prices.table, panel_folder(source, path))
    forecast = compose_forecast(symbol, served, served.model.rows(origin.window), prices, origin.market)
    if writer is None:
        return forecast
    recorded = writer.write(forecast.record)
    if recorded:
        writer.settle(symbol.ticker, card.price, prices.table)
    return replace(forecast, recorded=recorded)


def forecast_closes(
    closes: Sequence[Any],
    stock: str,
    source: str | None = None,
    path: Path | None = None,
    version: int | None = None,
) -> Forecast:
    """The forecast after these closes, oldest first, by this stock's model or the shared one.

    Args:
        closes: at least one lookback of them; all of them give volatilities.
        stock: its model is used.
        source: of the stock's history, if these are the stock's closes: the history then gives volatilities and
            the width of the bands, as it did when the model was evaluated. None: the closes give the volatilities.
        path: of the source's files.
        version: of the stock's model; None for the served one.

    Raises:
        NoModel: neither a model of this stock nor the shared model is served.
        NoSuchVersion: the stock has no such version.
        InvalidCloses: too few closes, or one that is not a positive finite number.
    """
    symbol = Symbol.parse(stock)
    served = served_model(symbol, version)
    window, history = served.model.window(closes), None
    if source is not None:
        card = served.model.card
        try:
            prices = latest_prices(Downloader(source, path, card.price), symbol, card)
            history = last_origin(served.model, symbol, prices.table, panel_folder(source, path))
        except PregaoError as error:
            logger.warning("%s: the history is not used. %s", symbol, error)
    return compose_forecast_of_closes(symbol, served, served.model.rows(with_history(window, history)), closes, history)


def with_history(window: Window, history: Origin | None) -> Window:
    """Given closes with the volatilities and the online width of the stock's history."""
    return window if history is None else replace(history.window, closes=window.closes)


def compose_forecast_of_closes(
    symbol: Symbol, served: Served, rows: Rows, closes: Sequence[Any], history: Origin | None
) -> Forecast:
    """The forecast after given closes; raises as `compose_forecast`."""
    lookback = served.model.card.lookback
    if history is None:
        used = min(len(closes), SPAN + 1)
        note = f"{used} closes alone give the volatilities. {OF_BARE_CLOSES}"
    else:
        used = lookback
        note = f"The history of {symbol} gives the volatilities and the width of the bands."
    forecast = compose_forecast(symbol, served, rows, market=None if history is None else history.market)
    return replace(forecast, closes=GivenCloses(used, history is not None, note))


def served_model(symbol: Symbol, version: int | None = None) -> Served:
    """The stock's model, or the shared model where it has none; with a version, that one of the stock's.

    Raises:
        NoModel: there is neither; names the stocks that have a model.
        NoSuchVersion: the stock has no such version; names those that it has.
    """
    if version is not None:
        return registry.load(symbol, version)
    try:
        return registry.champion(symbol)
    except NoModel as error:
        try:
            return registry.champion(Symbol.parse(SHARED))
        except NoModel:
            raise error from None


def latest_prices(downloader: Downloader, symbol: Symbol, card: ModelCard) -> Prices:
    """The prices that a forecast needs: sessions since the model's calibration, and before it enough for one window.

    Raises:
        InvalidCloses: fewer closes than the model's lookback.
        PregaoError: see `Downloader.latest`.
    """
    calibrated = len(
        sessions(symbol.calendar, date.fromisoformat(card.validation_start), last_finished_session(symbol.calendar))
    )
    prices = downloader.latest(symbol, calibrated + SPAN + card.lookback, least=card.lookback)
    _refuse_too_few(symbol, prices.table, card.lookback)
    return prices


def last_window(model: Forecaster, symbol: Symbol, prices: pd.DataFrame) -> Window:
    """The window of the forecast after the last session of a table, with its online width.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    _refuse_too_few(symbol, prices, model.card.lookback)
    return latest_window(model, prices, symbol)


def last_origin(model: Forecaster, symbol: Symbol, prices: pd.DataFrame, panel: Path | None) -> Origin:
    """The origin of the forecast after the last session of a table.

    Args:
        model: the served one.
        symbol: the stock.
        prices: its history.
        panel: the folder with the tables that extend the model's market; None for none.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    model = with_stored_prices(model, panel)
    return Origin(last_window(model, symbol, prices), market_age(model, prices))


def _refuse_too_few(symbol: Symbol, prices: pd.DataFrame, lookback: int) -> None:
    if len(prices) < lookback:
        last = prices["date"].iloc[-1].date()
        raise InvalidCloses(
            f"{symbol}: {len(prices)} closes up to {last}, and {lookback} are needed for a forecast. "
            "Choose a stock with a longer history, or train with a shorter data.lookback=."
        )


def with_dates(rows: Rows, symbol: Symbol, after: date) -> Rows:
    """The rows with the dates of the sessions after a day."""
    days = next_sessions(symbol.calendar, after, len(rows))
    return [{"date": day, **row} for day, row in zip(days, rows, strict=True)]


def iso(day: date | None) -> str | None:
    """ISO 8601, or None."""
    return None if day is None else day.isoformat()
