"""Rolling origins: prices known at each refit and forecast; a separate call returns the closes that followed."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from pregao.data.windows import Windows, sliding_windows

Prices = Mapping[str, pd.DataFrame]
"""Tables `date close …` by ticker."""

Cutoffs = Mapping[str, np.ndarray]
"""The days of the forecasts, datetime64, by ticker."""


@dataclass(frozen=True)
class Period:
    """The cutoffs in [refit, end); their models are fitted on closes before `refit`."""

    number: int
    refit: pd.Timestamp
    end: pd.Timestamp


class RollingOrigins:
    """Divides the cutoffs into periods, one per refit.

    Args:
        prices: tables `date close …` by ticker.
        lookback: number of closes in a window's input.
        horizon: number of closes in a forecast.
        first: the first cutoff.
        months: months between refits.
        years: years of history before a refit; None for all.
    """

    def __init__(
        self, prices: Prices, lookback: int, horizon: int, first: pd.Timestamp, months: int, years: float | None
    ) -> None:
        self._prices = prices
        self.years = years
        self._windows: dict[str, Windows] = {}
        for stock, table in prices.items():
            windows = sliding_windows(table, lookback, horizon, stock=stock)
            self._windows[stock] = windows.where(windows.cutoffs >= first.to_datetime64())
        cutoffs = [cutoff for windows in self._windows.values() for cutoff in windows.cutoffs[-1:]]
        ends = [first]
        while cutoffs and ends[-1] <= max(cutoffs):
            ends.append(first + pd.DateOffset(months=months * len(ends)))
        whole = [Period(number, *pair) for number, pair in enumerate(pairwise(ends))]
        self.periods = [period for period in whole if any(len(self.truths(period, stock)) for stock in prices)]

    def history(self, period: Period) -> dict[str, pd.DataFrame]:
        """The prices that a model may be fitted on: closes before the refit."""
        begin = pd.Timestamp.min if self.years is None else period.refit - pd.Timedelta(days=365.25 * self.years)
        cut = {name: t[(t["date"] < period.refit) & (t["date"] >= begin)] for name, t in self._prices.items()}
        return {name: table.reset_index(drop=True) for name, table in cut.items() if len(table)}

    def inputs(self, period: Period) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
        """The prices up to each stock's last cutoff, and the cutoffs, by stock with a cutoff in the period."""
        cutoffs = {name: self.truths(period, name).cutoffs for name in self._prices}
        cutoffs = {name: days for name, days in cutoffs.items() if len(days)}
        seen = {name: self._prices[name][self._prices[name]["date"] <= days[-1]] for name, days in cutoffs.items()}
        return seen, cutoffs

    def truths(self, period: Period, stock: str) -> Windows:
        """The windows of the period's cutoffs; their targets are the closes that followed."""
        windows = self._windows[stock]
        mask = (windows.cutoffs >= period.refit.to_datetime64()) & (windows.cutoffs < period.end.to_datetime64())
        return windows.where(mask)
