"""The price table that every source returns, and its conversion to a price basis."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

import pandas as pd

PriceBasis = Literal["adjusted", "close"]
NUMBERS = ["open", "high", "low", "close", "adj_close", "volume"]
COLUMNS = ["date", *NUMBERS]


def shaped(table: pd.DataFrame) -> pd.DataFrame:
    """Convert a table to the columns and types of COLUMNS; missing columns become NaN.

    `date` is a naive midnight, the others float64. `close` is adjusted for splits only (R$ on today's share count),
    `adj_close` also for dividends.
    """
    dates = pd.to_datetime(table["date"])
    if dates.dt.tz is not None:
        dates = dates.dt.tz_localize(None)  # local time: a conversion to UTC could change the day
    columns = {name: table[name].astype("float64") if name in table else float("nan") for name in NUMBERS}
    return pd.DataFrame({"date": dates.dt.normalize().astype("datetime64[us]"), **columns}).reset_index(drop=True)


def last_day(table: pd.DataFrame) -> date:
    """The day of the last row."""
    day: date = table["date"].iloc[-1].date()
    return day


def first_five(days: Sequence[date]) -> str:
    """The first five days as text, with an ellipsis if there are more."""
    return ", ".join(map(str, days[:5])) + (", …" if len(days) > 5 else "")


def on_basis(table: pd.DataFrame, price: PriceBasis) -> pd.DataFrame:
    """Convert open, high, low and close to the price basis.

    adjusted: for dividends, scaled so that the last row has the exchange's prices. Only ratios within the table count,
    so downloads of different days give the same numbers.

    Returns:
        date, open, high, low, close, volume; prices are unchanged if the table has no adj_close.
    """
    kept = table.drop(columns="adj_close").reset_index(drop=True)
    if price == "close" or table["adj_close"].isna().all():
        return kept
    ratio = (table["adj_close"] / table["close"]).to_numpy()
    prices = ["open", "high", "low", "close"]
    return kept.assign(**{name: kept[name] * (ratio / ratio[-1]) for name in prices})
