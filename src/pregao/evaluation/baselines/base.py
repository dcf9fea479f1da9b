"""The contract of a baseline, the checks that all baselines share, and the forecasts of one stock."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pregao.data.variance import columns
from pregao.errors import InvalidChoice, InvalidCloses, PregaoError
from pregao.quantiles import LEVELS

Closes = Float[np.ndarray, " sessions"]
Logs = Float[np.ndarray, " known"]
Returns = Float[np.ndarray, " returns"]
Origins = Int[np.ndarray, " n"]
Quantiles = Float[np.ndarray, "n horizon levels"]
Levels = Sequence[float]
Fit = TypeVar("Fit")

LEAST_ESTIMATED = 60
"""Closes needed to fit five parameters by maximum likelihood."""

BASELINES: dict[str, type["Baseline[Any]"]] = {}
"""Classes by name; ETS and ARIMA need the extra `classical`."""


@dataclass(frozen=True)
class History:
    """The prices of one stock, one per session, oldest first.

    Attributes:
        prices: `[sessions]` columns in the stock's currency: `close`, and `open`, `high`, `low` if they are known.
        stock: the ticker; random numbers differ between stocks.
    """

    prices: Mapping[str, np.ndarray]
    stock: str = ""

    @classmethod
    def of(cls, table: pd.DataFrame, stock: str) -> "History":
        """The history in a table `close …`, one row per session."""
        return cls(columns(table), stock)

    def __len__(self) -> int:
        return len(self.closes)

    @property
    def closes(self) -> Closes:
        """The closes, in the stock's currency."""
        return self.prices["close"]

    @cached_property
    def logs(self) -> Logs:
        """The logarithms of the closes."""
        logs: Logs = np.log(self.closes)
        return logs

    @property
    def percent(self) -> Returns:
        """The daily log returns in percent."""
        returns: Returns = 100 * np.diff(self.logs)
        return returns

    def until(self, sessions: int) -> "History":
        """The first sessions."""
        return History({name: column[:sessions] for name, column in self.prices.items()}, self.stock)


def baselines_named(names: Sequence[str], setting: str) -> dict[str, type["Baseline[Any]"]]:
    """Classes by name; raises InvalidChoice, which names the setting, for unknown names."""
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise InvalidChoice(f"{setting}: {', '.join(unknown)}: unknown. Allowed: {', '.join(BASELINES)}.")
    return {name: BASELINES[name] for name in names}


class Baseline(ABC, Generic[Fit]):
    """A forecaster without constructor arguments.

    A subclass implements `estimate` and `log_returns`; one that defines `name` is registered in `BASELINES`. Closes,
    origins and results are checked here.

    Attributes:
        name: shown in tables.
        least_closes: minimum number of closes for a fit.
        must_move: whether a fit estimates a variance, and so needs a price that changes.
    """

    name: ClassVar[str]
    least_closes: ClassVar[int] = 2
    must_move: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            BASELINES[cls.name] = cls

    def fit(self, history: History) -> "FittedBaseline[Fit]":
        """Estimate the parameters on a history.

        Raises:
            InvalidCloses: there are too few closes, one is not a positive number, or all are equal and a variance must
                be estimated.
            InvalidChoice: a required package is not installed.
        """
        n = len(history)
        if n < self.least_closes:
            raise self.refused(
                f"was given {n} closes to fit, and needs at least {self.least_closes}. Give it a longer history."
            )
        self._check(history)
        if self.must_move and np.ptp(history.logs) == 0:
            raise self.refused(
                f"was given {n} closes that are all {history.closes[0]:g}: a price that never moves has no variance to "
                "estimate. Give it a longer history, or leave that baseline out."
            )
        return FittedBaseline(self, self.estimate(history))

    @abstractmethod
    def estimate(self, history: History) -> Fit:
        """Parameters from the fit part."""

    @abstractmethod
    def log_returns(self, fit: Fit, history: History, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Quantiles of the log return from the last close to each step, 1 … horizon sessions after each origin."""

    def refused(self, what: str) -> InvalidCloses:
        """The error of this baseline, to raise."""
        return InvalidCloses(f"The baseline {self.name!r} {what}")

    def _check(self, history: History) -> None:
        closes = history.closes
        wrong = ~(np.isfinite(closes) & (closes > 0))
        if wrong.any():
            place = int(wrong.argmax())
            raise self.refused(
                f"was given {closes[place]:g} as close {place} of {len(closes)}; allowed are positive numbers. "
                "Correct the history, or leave that session out."
            )


@dataclass(frozen=True)
class FittedBaseline(Generic[Fit]):
    """A baseline with estimated parameters."""

    baseline: Baseline[Fit]
    parameters: Fit

    def quantiles(self, history: History, origins: Origins, horizon: int, levels: Levels = LEVELS) -> Quantiles:
        """Closes at `levels`, 1 … horizon sessions after each origin, in the closes' unit; they never cross.

        Raises:
            InvalidCloses: a close up to the last origin is not a positive number, an origin is outside the history,
                the fit part is too short for the horizon, or a quantile is not finite.
        """
        baseline, n = self.baseline, len(history)
        if horizon < 1:
            raise baseline.refused(f"was asked to forecast {horizon} sessions ahead; allowed are 1 and more.")
        if len(origins) and not 0 <= origins.min() <= origins.max() < n:
            requested = f"{origins.min()} to {origins.max()} of {n} closes"
            raise baseline.refused(f"was asked for origins {requested}; allowed are 0 to {n - 1}.")
        known = history.until(int(origins.max()) + 1 if len(origins) else 1)
        baseline._check(known)
        moves = baseline.log_returns(self.parameters, known, origins, horizon, levels)
        with np.errstate(over="ignore", invalid="ignore"):
            quantiles: Quantiles = history.closes[origins, None, None] * np.exp(moves)
        if not np.isfinite(quantiles).all():
            raise baseline.refused(
                "computed quantiles that are not finite: the returns of the fit part are too large for a price. Check "
                "the history, or leave that baseline out."
            )
        return quantiles


def stock_forecasts(
    baselines: Mapping[str, type[Baseline[Any]]],
    stock: str,
    past: pd.DataFrame,
    prices: pd.DataFrame,
    cutoffs: np.ndarray,
    horizon: int,
) -> tuple[dict[str, Quantiles], dict[str, PregaoError]]:
    """Quantiles of some baselines for one stock, and the errors of the others, by name.

    Args:
        baselines: classes by name; a worker process may have registered fewer than this process.
        stock: the ticker.
        past: the rows of the fit part.
        prices: `date close …`, up to the last cutoff at least.
        cutoffs: the dates of the forecasts' last closes.
        horizon: sessions ahead.
    """
    fit_part, history = History.of(past, stock), History.of(prices, stock)
    origins = np.searchsorted(prices["date"].to_numpy("datetime64[ns]"), cutoffs)
    forecasts, refused = {}, {}
    for name, baseline in baselines.items():
        try:
            forecasts[name] = baseline().fit(fit_part).quantiles(history, origins, horizon)
        except PregaoError as error:
            refused[name] = error
    return forecasts, refused
