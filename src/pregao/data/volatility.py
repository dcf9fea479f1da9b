"""How much a stock moves: daily volatilities over spans of its past, each as known at the end of its session.

They are what a network sees of the time before its window. The first is the long-run volatility, which every forecast
has; the others depend on `data.inputs`, and are NaN where the past or the source does not reach.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

VOLATILITY_FLOOR = 1e-3
"""A halted stock repeats its close; a daily 0.1 % keeps its scale away from zero."""

TYPICAL_VOLATILITY = 0.02
"""Root mean square daily log return of a B3 stock, where nothing is known of the stock yet."""

HALF_LIFE = 250
"""Sessions after which a squared return counts half in the long-run volatility."""

SPAN = 1000
"""Sessions that the long-run volatility looks back on: a history that begins earlier gives the same numbers."""

PRIOR_SESSIONS = 60
"""What the typical volatility counts for, until the stock's own past outweighs it."""

NAMES = {
    "window": ("long_run",),
    "history": ("long_run", "last", "rms_5", "rms_60", "rms_250", "downside_20"),
    "ohlc": ("long_run", "last", "rms_5", "rms_60", "rms_250", "downside_20", "range_1", "range_5", "range_20"),
}
"""The columns of `volatilities` by `data.inputs`."""

Prices = Mapping[str, Sequence[float] | np.ndarray]
"""Columns of a history, oldest first: `close`, and where the source has them `open`, `high`, `low`."""


def volatilities(
    prices: Prices, inputs: str, typical: float = TYPICAL_VOLATILITY
) -> Float[np.ndarray, "sessions measures"]:
    """Daily volatilities (fractions) as known at each session's end, in the columns of `NAMES[inputs]`.

    `rms_n` is the root mean square log return of n sessions, `downside_20` of the falls alone, `range_n` the Garman and
    Klass (1980) estimate from open, high, low and close. Each is NaN while less than a quarter of its span is known.

    Args:
        prices: the history, anchored anywhere.
        inputs: a key of `NAMES`.
        typical: the volatility of stocks like this, which stands in for a past that is not known.
    """
    close = np.asarray(prices["close"], np.float64)
    squared = log_returns(close) ** 2
    measures = {"long_run": _long_run(squared, typical)}
    if inputs != "window":
        falls = np.where(log_returns(close) < 0, squared, 0.0)
        measures["last"] = _rms(squared, 1)
        measures |= {f"rms_{span}": _rms(squared, span) for span in (5, 60, 250)}
        measures["downside_20"] = _rms(falls, 20)
    if inputs == "ohlc":
        ranges = _garman_klass(prices, close)
        measures |= {f"range_{span}": _root_mean(ranges, span) for span in (1, 5, 20)}
    return np.stack([measures[name] for name in NAMES[inputs]], axis=1)


def log_returns(close: Float[np.ndarray, " sessions"]) -> Float[np.ndarray, " sessions_less_one"]:
    """Daily log returns, rounded to float32's precision: the day that prices are anchored at leaves no trace."""
    with np.errstate(all="ignore"):
        returns: np.ndarray = np.diff(np.log(close)).astype(np.float32).astype(np.float64)
    return returns


def typical_volatility(histories: Sequence[Float[np.ndarray, " _"]]) -> float:
    """Root mean square daily log return over the closes of many stocks, never below the floor."""
    squared = np.concatenate([log_returns(close) ** 2 for close in histories] or [np.empty(0)])
    rms = float(np.sqrt(squared.mean())) if len(squared) else TYPICAL_VOLATILITY
    return max(rms, VOLATILITY_FLOOR) if math.isfinite(rms) else VOLATILITY_FLOOR


def _long_run(squared: np.ndarray, typical: float) -> np.ndarray:
    """Exponentially weighted, beginning at the typical volatility."""
    fading = 0.5 ** (np.arange(SPAN) / HALF_LIFE)
    known = np.minimum(np.arange(len(squared) + 1), SPAN)
    prior = PRIOR_SESSIONS * 0.5 ** (known / HALF_LIFE)
    sums = np.convolve(np.concatenate([[0.0], squared]), fading)[: len(squared) + 1]
    counts = np.concatenate([[0.0], fading.cumsum()])[known]
    found: np.ndarray = np.sqrt((sums + prior * typical**2) / (counts + prior))
    found = np.maximum(found, VOLATILITY_FLOOR)
    return found


def _rms(squared: np.ndarray, span: int) -> np.ndarray:
    return _root_mean(np.concatenate([[np.nan], squared]), span)


def _root_mean(variance: np.ndarray, span: int) -> np.ndarray:
    """Root of the mean of the last `span` variances, over those that are known."""
    padded = np.concatenate([np.full(span - 1, np.nan), variance])
    windows = np.lib.stride_tricks.sliding_window_view(padded, span)
    known = np.isfinite(windows)
    counts = known.sum(axis=1)
    sums = np.where(known, windows, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.sqrt(np.where(counts >= max(1, span / 4), sums / counts, np.nan))
    return found


def _garman_klass(prices: Prices, close: np.ndarray) -> np.ndarray:
    if not {"open", "high", "low"} <= set(prices):
        return np.full(len(close), np.nan)
    opening, high, low = (np.asarray(prices[name], np.float64) for name in ("open", "high", "low"))
    with np.errstate(all="ignore"):
        spread, body = (np.log(pair).astype(np.float32) for pair in (high / low, close / opening))
    variance = 0.5 * spread.astype(np.float64) ** 2 - (2 * math.log(2) - 1) * body.astype(np.float64) ** 2
    # A row whose high lies below its close gives a negative one; a day without a trade gives zero, which is known.
    return np.where(np.isfinite(variance) & (variance >= 0), variance, np.nan)
