"""The served model's forecast, from a stock's latest closes or from given ones: one path for every caller."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pregao.data.volatility import SPAN
from pregao.errors import InvalidCloses, NoModel
from pregao.evaluation.drift import Drift, drift
from pregao.forecasting.historical import rolling_forecasts
from pregao.forecasting.log import Record
from pregao.forecasting.writer import Keeper
from pregao.models.trained import ModelCard, TrainedModel, Window
from pregao.prices.calendar import last_finished_session, next_sessions, sessions
from pregao.prices.downloader import Downloader, Prices
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import registry as tracking
from pregao.tracking.registry import PRICES, Served


@dataclass(frozen=True)
class Forecast:
    """The next closes of a stock.

    Attributes:
        symbol: the stock.
        rows: `date step close lower_80 upper_80 lower_90 upper_90`, one a session; `date` is None for bare closes.
        as_of: the date of the last close that was used; None for bare closes.
        stale: the source was out of reach and the cache lags behind.
        served: the model that answered.
        source: `name` of the source that had the prices and the `reasons` why those before it were passed over; None
            for bare closes.
        last_close: the last close that was used; None for bare closes.
        drift: how far the stock is from what the model was trained on; None where that is not known.

    Raises:
        InvalidCloses: closes so far apart that what follows them is no finite price.
    """

    symbol: Symbol
    rows: list[dict[str, Any]]
    as_of: date | None
    stale: bool
    served: Served
    source: dict[str, Any] | None = None
    last_close: float | None = None
    drift: Drift | None = None

    def __post_init__(self) -> None:
        prices = (row[name] for row in self.rows for name in PRICES)
        if not all(0 < price < math.inf for price in prices):
            raise InvalidCloses(
                f"{self.symbol}: no finite price follows from these closes; they lie too far apart to be those of one "
                "stock. Check them for a lost decimal point."
            )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    @property
    def record(self) -> Record:
        """What is kept of it; bare closes, which nobody can score, are not."""
        assert self.as_of is not None
        assert self.last_close is not None
        served = self.served
        return Record(
            stock=self.symbol.ticker,
            model=served.stock,
            version=served.version,
            run_id=served.run_id,
            as_of=self.as_of,
            price=served.model.card.price,
            last_close=self.last_close,
            rows=self.rows,
        )

    def as_json(self) -> dict[str, Any]:
        """Under the names of POST /predict."""
        card = self.served.model.card
        return {
            "stock": self.symbol.ticker,
            "prediction": self.rows[0]["close"],
            "forecast": [row | {"date": iso(row["date"])} for row in self.rows],
            "as_of": iso(self.as_of),
            "stale": self.stale,
            "source": self.source,
            "model": {
                "stock": self.served.stock,
                "version": self.served.version,
                "run_id": self.served.run_id,
                "trained_at": card.trained_at,
                "skill_mape": card.metrics.get("skill_mape"),
            },
            "drift": None if self.drift is None else asdict(self.drift),
        }


def iso(day: date | None) -> str | None:
    """ISO 8601, or nothing for bare closes."""
    return None if day is None else day.isoformat()


def served_model(symbol: Symbol) -> Served:
    """The stock's own model, or else the shared one.

    Raises:
        NoModel: there is neither; names the stocks that have one.
    """
    try:
        return tracking.champion(symbol)
    except NoModel as none:
        try:
            return tracking.champion(Symbol.parse(SHARED))
        except NoModel:
            raise none from None


def forecast_stock(stock: str, source: str = "auto", path: Path | None = None) -> Forecast:
    """Forecast from the stock's latest prices, keep that, and score what was forecast before.

    Raises:
        NoModel: no version of this stock is served, and no shared model.
        PregaoError: no prices, or too few.
    """
    symbol = Symbol.parse(stock)
    served = served_model(symbol)
    prices = latest_prices(Downloader(source, path, served.model.card.price), symbol, served.model.card)
    return forecast_and_keep(served, prices)


def forecast_and_keep(served: Served, prices: Prices) -> Forecast:
    """Forecast what follows a stock's latest prices, keep that, and score what was forecast before.

    Raises:
        InvalidCloses: fewer closes than the model's lookback.
    """
    forecast = forecast_prices(served, prices)
    keeper = Keeper()
    keeper.keep(forecast.record)
    keeper.retry()
    keeper.settle(prices.symbol.ticker, served.model.card.price, prices.table)
    return forecast


def forecast_prices(served: Served, prices: Prices) -> Forecast:
    """Forecast what follows these prices; nothing is kept.

    Raises:
        InvalidCloses: fewer closes than the model's lookback.
    """
    table, symbol = prices.table, prices.symbol
    window = last_window(served.model, symbol, table)
    rows = dated(served.model.rows(window), symbol, prices.as_of)
    moved = latest_drift(served.model.card, symbol, table)
    return Forecast(symbol, rows, prices.as_of, prices.stale, served, prices.told, last_close(table), moved)


def latest_drift(card: ModelCard, symbol: Symbol, prices: pd.DataFrame) -> Drift | None:
    """The drift at the last session of a table."""
    return drift(card.returns.get(symbol.ticker), prices["close"].to_numpy())


def last_close(prices: pd.DataFrame) -> float:
    """The one that a forecast from this table begins at."""
    return float(prices["close"].iloc[-1])


def forecast_closes(closes: Sequence[Any], stock: str) -> Forecast:
    """Forecast what follows these closes, oldest first, with this stock's model or the shared one.

    Raises:
        NoModel: no version of this stock is served, and no shared model.
        InvalidCloses: too few of them, or one that is no positive finite number.
    """
    symbol = Symbol.parse(stock)
    served = served_model(symbol)
    return Forecast(symbol, undated(served.model.rows(served.model.window(closes))), None, False, served)


def latest_prices(downloader: Downloader, symbol: Symbol, card: ModelCard) -> Prices:
    """What a forecast can use: every session since the model was calibrated, and what feeds the first of them.

    Raises:
        PregaoError: as `Downloader.latest`.
    """
    since = len(
        sessions(symbol.calendar, date.fromisoformat(card.validation_start), last_finished_session(symbol.calendar))
    )
    return downloader.latest(symbol, since + SPAN + card.lookback, least=card.lookback)


def dated_forecast(model: TrainedModel, stock: str, prices: pd.DataFrame) -> pd.DataFrame:
    """What follows a `date, close, …` table, with the sessions' dates.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    symbol = Symbol.parse(stock)
    window = last_window(model, symbol, prices)
    return pd.DataFrame(dated(model.rows(window), symbol, prices["date"].iloc[-1].date()))


def last_window(model: TrainedModel, symbol: Symbol, prices: pd.DataFrame) -> Window:
    """What the forecast after the last session of a table is made from, the online width included.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    refuse_too_few(symbol, prices, model.card.lookback)
    return rolling_forecasts(model, prices, model.card.validation_start, symbol).last


def refuse_too_few(symbol: Symbol, prices: pd.DataFrame, lookback: int) -> None:
    """No forecast is made from less than a window.

    Raises:
        InvalidCloses: the table has fewer closes.
    """
    if len(prices) < lookback:
        last = prices["date"].iloc[-1].date()
        raise InvalidCloses(
            f"{symbol}: {len(prices)} closes up to {last}, and {lookback} are needed for a forecast. "
            "Ask for a stock with a longer history, or train with a shorter data.lookback=."
        )


def dated(rows: list[dict[str, Any]], symbol: Symbol, after: date) -> list[dict[str, Any]]:
    """A model's rows with the dates of the sessions after a day."""
    days = next_sessions(symbol.calendar, after, len(rows))
    return [{"date": day, **row} for day, row in zip(days, rows, strict=True)]


def undated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A model's rows where nobody knows the day."""
    return [{"date": None, **row} for row in rows]
