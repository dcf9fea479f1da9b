"""Histories of one or many stocks → one panel of windows, split by the same dates for all stocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from pregao.data.market import Market
from pregao.data.variance import columns
from pregao.data.volatility import typical_volatility, volatilities
from pregao.data.windows import (
    BorderRule,
    Borders,
    Split,
    day,
    find_borders,
    joined,
    sliding_windows,
    split_at,
    too_few,
)
from pregao.errors import TooFewSessions

ALL_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Panel:
    """Windows of many stocks, split into parts.

    Attributes:
        histories: by ticker: `date close`, and `open high low` if known; they may start before the windows.
        prices: the same from the first day of the windows on.
        split: the windows by part.
        borders: the first date of the validation part, the first date of the test part.
        typical: root mean square daily log return over all stocks before the validation part.
        market: the market factor of the panel, or of the model that training starts from; None without one.
    """

    histories: Mapping[str, pd.DataFrame]
    prices: Mapping[str, pd.DataFrame]
    split: Split
    borders: Borders
    typical: float
    market: Market | None = None

    @property
    def stocks(self) -> list[str]:
        """The tickers."""
        return list(self.prices)

    @property
    def first(self) -> date:
        """The first day of all histories."""
        return min(day(table["date"].iloc[0]) for table in self.prices.values())

    @property
    def last(self) -> date:
        """The last day of all histories."""
        return max(day(table["date"].iloc[-1]) for table in self.prices.values())


def build_panel(
    histories: Mapping[str, pd.DataFrame],
    lookback: int,
    horizon: int,
    inputs: str,
    rule: BorderRule,
    typical: float | None = None,
    needed: Sequence[str] = ALL_PARTS,
    since: date | None = None,
    market: Market | None = None,
) -> Panel:
    """Build the windows of these histories and split them.

    Args:
        histories: by ticker.
        lookback: closes per window.
        horizon: closes to forecast.
        inputs: the measures, a key of `volatility.NAMES`.
        rule: returns the first dates of the validation and the test part.
        typical: typical volatility of the model that training starts from; None estimates it from the training part.
        needed: parts that must not be empty.
        since: the first day of the windows; earlier sessions serve only the measures. None for all days.
        market: market factor of the model that training starts from; None computes it from the histories.

    Raises:
        TooFewSessions: a needed part would be empty.
    """
    prices = {name: _from(table, since) for name, table in histories.items()}
    try:
        borders = find_borders(prices.values(), horizon, rule)
    except IndexError:  # a border after the last window
        raise _too_few(prices, lookback, horizon, rule, needed) from None
    if typical is None:
        typical = typical_volatility([known_before(table, borders[0]) for table in prices.values()])
    if market is None and inputs == "panel":
        market = Market.of(histories)
    windows = joined(
        [
            sliding_windows(
                table, lookback, horizon, volatilities(columns(table), inputs, typical, market), name
            ).where(slice(len(table) - len(prices[name]), None))
            for name, table in histories.items()
        ]
    )
    split = split_at(windows, borders)
    # Scores need baselines, and a stock without windows before the test part has no closes to fit them on.
    known = np.concatenate([split.train.stocks, split.validation.stocks])
    split = replace(split, test=split.test.where(np.isin(split.test.stocks, known)))
    if not all(len(getattr(split, part)) for part in needed):
        raise _too_few(prices, lookback, horizon, rule, needed)
    return Panel(histories, prices, split, borders, typical, market)


def _from(table: pd.DataFrame, since: date | None) -> pd.DataFrame:
    return table if since is None else table[table["date"] >= pd.Timestamp(since)].reset_index(drop=True)


def _too_few(
    prices: Mapping[str, pd.DataFrame], lookback: int, horizon: int, rule: BorderRule, needed: Sequence[str]
) -> TooFewSessions:
    stock = max(prices, key=lambda name: len(prices[name]))
    if tuple(needed) == ALL_PARTS:
        return too_few(stock, prices[stock], lookback, horizon, rule)
    first, last = (day(prices[stock]["date"].iloc[place]) for place in (0, -1))
    why = "windows for " + " and for ".join(needed)
    return TooFewSessions(stock, first, last, len(prices[stock]), 2 * (lookback + horizon), why)


def known_before(prices: pd.DataFrame, border: np.datetime64) -> np.ndarray:
    """The closes before a border date."""
    closes: np.ndarray = prices.loc[prices["date"] < border, "close"].to_numpy(np.float64)
    return closes
