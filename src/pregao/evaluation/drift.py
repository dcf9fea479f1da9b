"""Has a stock changed since its model was trained? Its recent daily returns against those of the training part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

SESSIONS = 60
"""Recent returns that are looked at: fewer see little, more see a change late and raise more false alarms."""

USUAL = 0.99
"""The part of the training part's own windows that the bound lies above."""

STRIDE = 5
"""Sessions between these windows, which overlap anyway."""

FEWEST_WINDOWS = 40
"""With fewer of them nobody knows what is usual."""

LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class DriftReport:
    """The distance of a stock's returns from those that the model was trained on.

    Attributes:
        score: Kolmogorov and Smirnov's distance between the last 60 daily log returns and the training part's
            distribution, divided by the distance that 99 % of the training part's own 60-session windows stay under.
        warning: a sentence, where the score is above 1; else None.
    """

    score: float
    warning: str | None


def summary(closes: Sequence[float] | np.ndarray) -> dict[str, Any] | None:
    """What a model's card keeps of a training part's closes: percentiles of its daily log returns, and the bound.

    The test's own significance is of no use here: returns of a calm month are alike, so that even windows of one and
    the same stock differ «significantly» three times as often as independent draws would. So the training part itself
    tells what is usual. None where it is too short for that, or never moved.
    """
    returns = _returns(closes)
    if len(returns) < SESSIONS + STRIDE * (FEWEST_WINDOWS - 1):
        return None
    percentiles = np.quantile(returns, LEVELS)
    windows = np.lib.stride_tricks.sliding_window_view(returns, SESSIONS)[::STRIDE]
    bound = float(np.quantile(_distances(windows, percentiles), USUAL))
    # Rounded to a thousandth of a percent, which no test of 60 returns can tell: the card stays short.
    return {"percentiles": percentiles.round(5).tolist(), "bound": round(bound, 5)} if np.ptp(percentiles) else None


def drift(usual: dict[str, Any] | None, closes: Sequence[float] | np.ndarray) -> DriftReport | None:
    """The drift of a stock's latest closes, oldest first; None where the model knows no usual returns of the stock.

    Args:
        usual: of the training part, as `summary` made it.
        closes: at least 61; of more the last ones are used.
    """
    recent = _returns(closes)[-SESSIONS:]
    if usual is None or len(recent) < SESSIONS:
        return None
    [distance] = _distances(recent[None], np.array(usual["percentiles"]))
    score = float(distance / usual["bound"])
    warning = (
        f"The last {SESSIONS} daily returns are {score:.2f} times as far from those of the training part as "
        f"{USUAL:.0%} of its own {SESSIONS}-session windows: the bands may be wrong by more than they were when judged."
    )
    return DriftReport(score, warning if score > 1 else None)


def _returns(closes: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    returns: np.ndarray = np.diff(np.log(np.asarray(closes, np.float64)))
    return returns


def _distances(
    windows: Float[np.ndarray, "n sessions"], percentiles: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Kolmogorov and Smirnov's distance of each window's returns from a distribution."""
    expected = np.interp(np.sort(windows, axis=1), percentiles, LEVELS)
    steps = np.arange(SESSIONS + 1) / SESSIONS
    distances: np.ndarray = np.maximum(steps[1:] - expected, expected - steps[:-1]).max(axis=1)
    return distances
