"""The market factor at serving: the model's own, extended by the stored prices of its panel; nothing is downloaded."""

import logging
import os
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from pregao.data.market import OLDEST
from pregao.data.variance import columns, daily_variance
from pregao.data.windows import day
from pregao.errors import BadPrices
from pregao.models.forecaster import Forecaster
from pregao.prices.calendar import last_finished_session
from pregao.prices.sources.csv import read_table
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis, on_basis
from pregao.settings import settings

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.5
"""Of the panel's stocks that must have traded on a day for a mean over the panel."""


@dataclass(frozen=True)
class MarketAge:
    """The last market measures that a forecast can use.

    Attributes:
        as_of: their day.
        sessions_old: closes of the stock after that day.
        stocks: number of stocks in the panel.
    """

    as_of: date
    sessions_old: int
    stocks: int

    @property
    def used(self) -> bool:
        """Whether the forecast uses them; otherwise it uses the stock's measures alone."""
        return self.sessions_old <= OLDEST

    @property
    def note(self) -> str | None:
        """A sentence on old measures; None for those of the last close."""
        if not self.sessions_old:
            return None
        use = "" if self.used else "; they are too old and are not used"
        return f"The market measures end on {self.as_of}, {self.sessions_old} sessions before the last close{use}."


def market_age(model: Forecaster, prices: pd.DataFrame) -> MarketAge | None:
    """The age of a model's market measures at the last row of a table `date …`; None for a model without them."""
    if model.market is None:
        return None
    known = model.market.dates[model.market.dates <= prices["date"].iloc[-1].to_datetime64()]
    if not len(known):
        return None
    after = int((prices["date"] > known[-1]).sum())
    return MarketAge(day(known[-1]), after, len(model.market.stocks))


def panel_folder(source: str, path: Path | None) -> Path | None:
    """The folder of the panel's tables: that of source=csv, else the price cache; None for a source without others."""
    if source == "csv":
        return path if path is not None and path.is_dir() else None
    return None if source == "sample" else settings().data


def with_stored_prices(model: Forecaster, folder: Path | None) -> Forecaster:
    """The model with its market extended by the days that the tables in a folder have after its end.

    Args:
        model: its market is unchanged up to its end.
        folder: with `<STOCK>.csv` of the panel; None for none.
    """
    market = model.market
    if market is None or folder is None:
        return model
    found = {
        stock: _stored(folder / f"{stock}.csv", stock, model.card.price, market.dates[-1]) for stock in market.stocks
    }
    table = pd.DataFrame({stock: each for stock, each in found.items() if each is not None})
    newer = table[table.count(axis=1) >= LEAST_SHARE * len(market.stocks)].mean(axis=1).sort_index()
    if newer.empty:
        return model
    return model.with_market(market.extended(newer.index.to_numpy("datetime64[ns]"), newer.to_numpy()))


def _stored(file: Path, stock: str, price: PriceBasis, after: np.datetime64) -> "pd.Series[float] | None":
    """The daily variances of a stock after a day, by date; None without a usable file."""
    try:
        changed = os.stat(file).st_mtime_ns
    except OSError:
        return None
    symbol = Symbol.parse(stock)
    return _variances(file, symbol, changed, price, after, last_finished_session(symbol.calendar))


@lru_cache(maxsize=2000)
def _variances(
    file: Path, symbol: Symbol, changed: int, price: PriceBasis, after: np.datetime64, until: date
) -> "pd.Series[float] | None":
    """Cached by the file's time of change: parsing takes 20 milliseconds."""
    try:
        table = read_table(file, symbol)
    except BadPrices as error:
        logger.warning("%s is left out of the market: %s", file.name, error)
        return None
    if price == "adjusted" and table["adj_close"].notna().any():
        table = table.dropna(subset="adj_close")
    table = table[table["date"].between(pd.Timestamp(after), pd.Timestamp(until))]
    table = table.drop_duplicates("date", keep="last").sort_values("date")
    if table.empty:
        return None
    prices = on_basis(table, price)
    return pd.Series(daily_variance(columns(prices)), prices["date"]).iloc[1:]
