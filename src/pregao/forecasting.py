"""The served model's forecast, from a stock's latest closes or from given ones: one path for every caller."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pregao import tracking
from pregao.errors import InvalidCloses
from pregao.prices.calendar import next_sessions
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.tracking import PRICES, Served
from pregao.trained_model import TrainedModel


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

    Raises:
        InvalidCloses: closes so far apart that what follows them is no finite price.
    """

    symbol: Symbol
    rows: list[dict[str, Any]]
    as_of: date | None
    stale: bool
    served: Served
    source: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        prices = (row[name] for row in self.rows for name in PRICES)
        if not all(map(math.isfinite, prices)):
            raise InvalidCloses(
                f"{self.symbol}: no finite price follows from these closes; they lie too far apart to be those of one "
                "stock. Check them for a lost decimal point."
            )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

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
        }


def iso(day: date | None) -> str | None:
    """ISO 8601, or nothing for bare closes."""
    return None if day is None else day.isoformat()


def forecast_stock(stock: str, source: str = "auto", path: Path | None = None) -> Forecast:
    """Forecast from the stock's latest closes.

    Raises:
        NoModel: no version of this stock is served.
        PregaoError: no prices, or too few.
    """
    symbol = Symbol.parse(stock)
    served = tracking.champion(symbol)
    card = served.model.card
    prices = Downloader(source, path, card.price).latest(symbol, card.lookback)
    window = last_window(symbol, prices.closes, card.lookback)
    rows = dated(served.model.rows(window), symbol, prices.as_of)
    return Forecast(symbol, rows, prices.as_of, prices.stale, served, prices.told)


def forecast_closes(closes: Sequence[Any], stock: str) -> Forecast:
    """Forecast what follows these closes, oldest first, with this stock's model.

    Raises:
        NoModel: no version of this stock is served.
        InvalidCloses: too few of them, or one that is no positive finite number.
    """
    symbol = Symbol.parse(stock)
    served = tracking.champion(symbol)
    return Forecast(symbol, undated(served.model.rows(closes)), None, False, served)


def dated_forecast(model: TrainedModel, symbol: Symbol, closes: pd.DataFrame) -> pd.DataFrame:
    """What follows a `date, close` table, with the sessions' dates.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    window = last_window(symbol, closes, model.card.lookback)
    return pd.DataFrame(dated(model.rows(window), symbol, closes["date"].iloc[-1].date()))


def last_window(symbol: Symbol, closes: pd.DataFrame, lookback: int) -> list[float]:
    """The closes that a forecast sees.

    Raises:
        InvalidCloses: the table has fewer.
    """
    if len(closes) < lookback:
        last = closes["date"].iloc[-1].date()
        raise InvalidCloses(
            f"{symbol}: {len(closes)} closes up to {last}, and {lookback} are needed for a forecast. "
            "Ask for a stock with a longer history, or train with a shorter data.lookback=."
        )
    return [float(close) for close in closes["close"].iloc[-lookback:]]


def dated(rows: list[dict[str, Any]], symbol: Symbol, after: date) -> list[dict[str, Any]]:
    """A model's rows with the dates of the sessions after a day."""
    days = next_sessions(symbol.calendar, after, len(rows))
    return [{"date": day, **row} for day, row in zip(days, rows, strict=True)]


def undated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A model's rows where nobody knows the day."""
    return [{"date": None, **row} for row in rows]
