"""Drift detection: a stock's recent daily returns compared with those of the training part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

SESSIONS = 60
"""Recent returns to compare: fewer detect little; more detect a change late and give more false alarms."""

USUAL = 0.99
"""Fraction of the training part's windows whose distance is below the bound."""

STRIDE = 5
"""Sessions between the starts of these windows."""

FEWEST_WINDOWS = 40
"""Fewer windows do not give a reliable bound."""

LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class DriftReport:
    """The distance of a stock's returns from those that the model was trained on.

    Attributes:
        score: Kolmogorov-Smirnov distance between the last 60 daily log returns and the training part's distribution,
            divided by the 99 % quantile of this distance over the training part's 60-session windows.
        warning: a sentence if the score is above 1; else None.
    """

    score: float
    warning: str | None


def summary(closes: Sequence[float] | np.ndarray) -> dict[str, Any] | None:
    """Percentiles of the training part's daily log returns and the bound, for a model's card.

    The test's p-value cannot be used: volatility clusters, so that windows of an unchanged stock are rejected three
    times as often as independent draws. So the bound is estimated on the training part. None if that is too short, or
    its closes never change.
    """
    returns = _returns(closes)
    if len(returns) < SESSIONS + STRIDE * (FEWEST_WINDOWS - 1):
        return None
    percentiles = np.quantile(returns, LEVELS)
    windows = np.lib.stride_tricks.sliding_window_view(returns, SESSIONS)[::STRIDE]
    bound = float(np.quantile(_distances(windows, percentiles), USUAL))
    # Rounded to a thousandth of a percent, far below the resolution of 60 returns: the card stays short.
    return {"percentiles": percentiles.round(5).tolist(), "bound": round(bound, 5)} if np.ptp(percentiles) else None


def drift(usual: dict[str, Any] | None, closes: Sequence[float] | np.ndarray) -> DriftReport | None:
    """The drift of a stock's latest closes, oldest first; None without a summary, or with too few closes.

    Args:
        usual: the `summary` of the training part.
        closes: the last 61 are used.
    """
    recent = _returns(closes)[-SESSIONS:]
    if usual is None or len(recent) < SESSIONS:
        return None
    [distance] = _distances(recent[None], np.array(usual["percentiles"]))
    score = float(distance / usual["bound"])
    warning = (
        f"The last {SESSIONS} daily returns are {score:.2f} times as far from those of the training part as "
        f"{USUAL:.0%} of its {SESSIONS}-session windows: the bands may be less accurate than in the evaluation."
    )
    return DriftReport(score, warning if score > 1 else None)


def _returns(closes: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    returns: np.ndarray = np.diff(np.log(np.asarray(closes, np.float64)))
    return returns


def _distances(
    windows: Float[np.ndarray, "n sessions"], percentiles: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Kolmogorov-Smirnov distance of each window's returns from a distribution."""
    expected = np.interp(np.sort(windows, axis=1), percentiles, LEVELS)
    steps = np.arange(SESSIONS + 1) / SESSIONS
    distances: np.ndarray = np.maximum(steps[1:] - expected, expected - steps[:-1]).max(axis=1)
    return distances
