"""The served model's forecast, from a stock's latest closes or from given ones: one path for every caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from pregao import tracking
from pregao.errors import InvalidCloses
from pregao.prices.calendar import next_sessions
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.tracking import Served
from pregao.trained_model import TrainedModel


@dataclass(frozen=True)
class Forecast:
    """The next closes of a stock.

    Attributes:
        symbol: the stock.
        table: `date step close lower_80 upper_80 lower_90 upper_90`, a row a session; `date` is null for bare closes.
        as_of: the date of the last close that was used; None for bare closes.
        stale: the source was out of reach and the cache lags behind.
        served: the model that answered.
    """

    symbol: Symbol
    table: pd.DataFrame
    as_of: date | None
    stale: bool
    served: Served

    def as_json(self) -> dict[str, Any]:
        """Under the names of POST /predict."""
        rows = self.table.assign(date=self.table["date"].map(iso)).to_dict("records")
        card = self.served.model.card
        return {
            "stock": self.symbol.ticker,
            "prediction": rows[0]["close"],
            "forecast": rows,
            "as_of": iso(self.as_of),
            "stale": self.stale,
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
    table = dated_forecast(served.model, symbol, prices.closes)
    return Forecast(symbol, table, prices.as_of, prices.stale, served)


def forecast_closes(closes: Sequence[Any], stock: str) -> Forecast:
    """Forecast what follows these closes, oldest first, with this stock's model.

    Raises:
        NoModel: no version of this stock is served.
        InvalidCloses: too few of them, or one that is no positive finite number.
    """
    symbol = Symbol.parse(stock)
    served = tracking.champion(symbol)
    table = served.model.forecast(closes)
    table.insert(0, "date", None)
    return Forecast(symbol, table, None, False, served)


def dated_forecast(model: TrainedModel, symbol: Symbol, closes: pd.DataFrame) -> pd.DataFrame:
    """What follows a `date, close` table, with the sessions' dates.

    Raises:
        InvalidCloses: the table has fewer closes than the model's lookback.
    """
    last = closes["date"].iloc[-1].date()
    lookback = model.card.lookback
    if len(closes) < lookback:
        raise InvalidCloses(
            f"{symbol}: {len(closes)} closes up to {last}, and {lookback} are needed for a forecast. "
            "Ask for a stock with a longer history, or train with a shorter data.lookback=."
        )
    table = model.forecast(closes["close"].tolist()[-lookback:])
    table.insert(0, "date", next_sessions(symbol.calendar, last, len(table)))
    return table
