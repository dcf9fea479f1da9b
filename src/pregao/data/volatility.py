"""Daily volatilities over several spans of the past, each as known at the end of its session.

They give a network the time before its window. The first is the long-run volatility, which is always known; the others
depend on `data.inputs`, and are NaN where the history is too short or the source lacks a column.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pregao.data.market import Market
from pregao.data.variance import SPANS, Prices, daily_variance, garman_klass, rolling_mean

VOLATILITY_FLOOR = 1e-3
"""A halted stock repeats its close; 0.1 % a day keeps its scale above zero."""

TYPICAL_VOLATILITY = 0.02
"""Root mean square daily log return of a B3 stock without a history."""

HALF_LIFE = 250
"""Sessions after which the weight of a squared return in the long-run volatility is halved."""

SPAN = 1000
"""Sessions in the long-run volatility: earlier ones do not change it."""

PRIOR_SESSIONS = 60
"""Weight of the typical volatility in sessions; it decays with the half-life."""

LONG_SPANS = (60, 250)
"""Sessions in the means of squared returns that describe the past of closes without ranges."""

NAMES = {
    "window": ("long_run",),
    "history": ("long_run", "last", "rms_5", "rms_60", "rms_250", "downside_20"),
    "ohlc": ("long_run", "last", "rms_5", "rms_60", "rms_250", "downside_20", "range_1", "range_5", "range_20"),
}
NAMES["panel"] = (
    *NAMES["ohlc"],
    *(f"{of}_{span}" for of in ("variance", "market") for span in SPANS),
    *(f"squares_{span}" for span in LONG_SPANS),
)
"""The columns of `volatilities` by `data.inputs`."""


def volatilities(
    prices: Prices, inputs: str, typical: float = TYPICAL_VOLATILITY, market: Market | None = None
) -> Float[np.ndarray, "sessions measures"]:
    """Daily volatilities (fractions) as known at each session's end, in the columns of `NAMES[inputs]`.

    `rms_n` is the root mean square log return of n sessions, `downside_20` that of the negative returns, `range_n` the
    estimate of Garman & Klass (1980) from open, high, low and close. Each is NaN until a quarter of its span is known.
    `variance_n` also contains the overnight return, `market_n` is the same of the panel's stocks together, and
    `squares_n` is `rms_n` where its whole span is known.

    Args:
        prices: the history, adjusted on any day.
        inputs: a key of `NAMES`.
        typical: the volatility of similar stocks, which replaces the unknown past.
        market: the market factor; `prices` then has the column `date`. None if it is unknown.
    """
    close = np.asarray(prices["close"], np.float64)
    squared = log_returns(close) ** 2
    measures = {"long_run": _long_run(squared, typical)}
    if inputs != "window":
        falls = np.where(log_returns(close) < 0, squared, 0.0)
        measures["last"] = _rms(squared, 1)
        measures |= {f"rms_{span}": _rms(squared, span) for span in (5, 60, 250)}
        measures["downside_20"] = _rms(falls, 20)
    if inputs in ("ohlc", "panel"):
        ranges = garman_klass(prices)
        measures |= {f"range_{span}": np.sqrt(rolling_mean(ranges, span)) for span in (1, 5, 20)}
    if inputs == "panel":
        variances, sessions = daily_variance(prices), np.arange(len(close))
        measures |= {f"variance_{span}": np.sqrt(rolling_mean(variances, span)) for span in SPANS}
        unknown = np.full((len(close), len(SPANS)), np.nan)
        shared = unknown if market is None or "date" not in prices else market.measures(np.asarray(prices["date"]))
        measures |= {f"market_{span}": column for span, column in zip(SPANS, shared.T, strict=True)}
        whole = {span: sessions >= span - 1 for span in LONG_SPANS}
        measures |= {f"squares_{span}": np.where(whole[span], _rms(squared, span), np.nan) for span in LONG_SPANS}
    return np.stack([measures[name] for name in NAMES[inputs]], axis=1)


def log_returns(close: Float[np.ndarray, " sessions"]) -> Float[np.ndarray, " sessions_less_one"]:
    """Daily log returns, rounded to float32's precision, so that they do not depend on the day of adjustment."""
    with np.errstate(all="ignore"):
        returns: np.ndarray = np.diff(np.log(close)).astype(np.float32).astype(np.float64)
    return returns


def typical_volatility(histories: Sequence[Float[np.ndarray, " _"]]) -> float:
    """Root mean square daily log return over the closes of many stocks, at least the floor."""
    squared = np.concatenate([log_returns(close) ** 2 for close in histories] or [np.empty(0)])
    rms = float(np.sqrt(squared.mean())) if len(squared) else TYPICAL_VOLATILITY
    return max(rms, VOLATILITY_FLOOR) if math.isfinite(rms) else VOLATILITY_FLOOR


def _long_run(squared: np.ndarray, typical: float) -> np.ndarray:
    """Exponentially weighted, with the typical volatility as prior."""
    fading = 0.5 ** (np.arange(SPAN) / HALF_LIFE)
    known = np.minimum(np.arange(len(squared) + 1), SPAN)
    prior = PRIOR_SESSIONS * 0.5 ** (known / HALF_LIFE)
    sums = np.convolve(np.concatenate([[0.0], squared]), fading)[: len(squared) + 1]
    counts = np.concatenate([[0.0], fading.cumsum()])[known]
    found: np.ndarray = np.sqrt((sums + prior * typical**2) / (counts + prior))
    found = np.maximum(found, VOLATILITY_FLOOR)
    return found


def _rms(squared: np.ndarray, span: int) -> np.ndarray:
    rms: np.ndarray = np.sqrt(rolling_mean(np.concatenate([[np.nan], squared]), span))
    return rms
