"""Daily variances from open, high, low and close, their means over the past, and over the next sessions.

The measure of one session is the squared overnight return plus the estimate of Garman & Klass (1980) from the session's
range. It knows far more about a day than the squared return from close to close.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:  # an inference process saves pandas' 60 MB
    import pandas as pd

Prices = Mapping[str, Sequence[float] | np.ndarray]
"""Columns of a history, oldest first: `close`, and `open`, `high`, `low` if the source has them."""

Variances = Float[np.ndarray, " sessions"]

LEAST_VARIANCE = 1e-7
"""Of one session, so that a day without a move has a logarithm."""

SPANS = (1, 5, 22, 120)
"""Sessions in the means of a heterogeneous autoregression: a day, a week, a month, half a year (Corsi 2009)."""

LARGEST_RATIO = 4.0
"""One extreme day must not decide a regression: a target counts it as at most four times its half-year mean."""


def columns(prices: "pd.DataFrame") -> dict[str, np.ndarray]:
    """The columns that volatilities are computed from: prices and dates."""
    known = {name: prices[name].to_numpy(np.float64) for name in ("open", "high", "low", "close") if name in prices}
    return known | {"date": prices["date"].to_numpy("datetime64[ns]")}


def daily_variance(prices: Prices) -> Variances:
    """The variance of each session's log return, overnight part included, at least `LEAST_VARIANCE`.

    NaN where a price is unknown or the row is invalid, and at the first session.
    """
    if not {"open", "high", "low"} <= set(prices):
        return np.full(len(prices["close"]), np.nan)
    opening, close = (np.asarray(prices[name], np.float64) for name in ("open", "close"))
    overnight = np.concatenate([[np.nan], _log_ratio(opening[1:], close[:-1])])
    variance: np.ndarray = np.maximum(overnight**2 + garman_klass(prices), LEAST_VARIANCE)  # keeps NaN
    return variance


def garman_klass(prices: Prices) -> Variances:
    """The variance of each session from its range; NaN where a price is unknown or the row is invalid."""
    if not {"open", "high", "low"} <= set(prices):
        return np.full(len(prices["close"]), np.nan)
    opening, high, low, close = (np.asarray(prices[name], np.float64) for name in ("open", "high", "low", "close"))
    variance = 0.5 * _log_ratio(high, low) ** 2 - (2 * math.log(2) - 1) * _log_ratio(close, opening) ** 2
    # Negative if the high is below the close: an invalid row. Zero on a day without trades is a valid value.
    return np.where(np.isfinite(variance) & (variance >= 0), variance, np.nan)


def rolling_mean(values: Variances, span: int) -> Variances:
    """The mean of the last `span` values, over the known ones; NaN until a quarter of them is known."""
    padded = np.concatenate([np.full(span - 1, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, span)
    known = np.isfinite(windows)
    counts = known.sum(axis=1)
    sums = np.where(known, windows, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: np.ndarray = np.where(counts >= max(1, span / 4), sums / counts, np.nan)
    return means


def measured_variance(prices: Prices) -> Variances:
    """`daily_variance`; of a history without any ranges, the squared returns from close to close."""
    variances = daily_variance(prices)
    if np.isfinite(variances).any():
        return variances
    close = np.asarray(prices["close"], np.float64)
    squared: np.ndarray = np.concatenate([[np.nan], _log_ratio(close[1:], close[:-1]) ** 2])
    at_least: np.ndarray = np.maximum(squared, LEAST_VARIANCE)
    return at_least


def future_variance(variances: Variances, horizon: int) -> Float[np.ndarray, "sessions horizon"]:
    """The mean variance of the next 1 … horizon sessions after each session; NaN where one of them is unknown."""
    limit = np.nan_to_num(LARGEST_RATIO * rolling_mean(variances, SPANS[-1]), nan=np.inf)
    capped = np.minimum(variances, limit)
    ahead = np.lib.stride_tricks.sliding_window_view(np.concatenate([capped[1:], np.full(horizon, np.nan)]), horizon)
    means: np.ndarray = ahead.cumsum(axis=1) / np.arange(1, horizon + 1)
    return means


def _log_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Rounded to float32's precision, so that it does not depend on the day of adjustment."""
    with np.errstate(all="ignore"):
        ratio: np.ndarray = np.log(numerator / denominator).astype(np.float32).astype(np.float64)
    return ratio
