"""Calibration of the bands: a conformal width after training, and an online width that follows the outcomes.

Both use scores: the distance of the actual close from the median, in half-widths of the 90 % band, as log returns. A
score above 1 is a miss. One width multiplies all gaps between quantiles: a single level or stock has too few windows,
which overlap, for a separate calibration.
"""

import math

import numpy as np
from jaxtyping import Float

from pregao.quantiles import MEDIAN, at

NOMINAL = 0.9
"""Fraction of the closes that should lie between the levels 0.05 and 0.95."""

RATE = 0.0075
"""Step of the logarithm of the online width per session. A larger one follows noise, a smaller one adapts too late to a
calm or a volatile year. Between the two rates that were best on windows before the reference border."""


def band_scores(
    y: Float[np.ndarray, "n horizon"], quantiles: Float[np.ndarray, "n horizon 7"]
) -> Float[np.ndarray, "n horizon"]:
    """Distance of each actual close `y` from the median, in half-widths of the 90 % band; NaN where `y` is NaN."""
    median = quantiles[..., MEDIAN]
    half = np.log(at(quantiles, 0.95) / at(quantiles, 0.05)) / 2
    scores: np.ndarray = np.abs(np.log(y / median)) / half
    return scores


def conformal_width(scores: Float[np.ndarray, "n horizon"]) -> float:
    """The factor at which the 90 % band contains 90 % of the actual closes; 1 without scores.

    Split-conformal (Vovk; Lei et al. 2018). It is too narrow when a calm year precedes a volatile one: use it only for
    a network that does not learn quantiles.

    Args:
        scores: of forecasts outside the training part, one session apart; NaN where unknown. Windows overlap: of n
            windows of one horizon, n / horizon are independent, which is what the finite-sample correction counts.
    """
    known = scores[np.isfinite(scores)]
    if not len(known):
        return 1.0
    independent = len(known) / scores.shape[1] ** 2
    return float(np.quantile(known, min(1.0, NOMINAL * (1 + 1 / independent))))


def online_widths(scores: Float[np.ndarray, "n horizon"], rate: float = RATE) -> Float[np.ndarray, " n"]:
    """The width at each of one stock's consecutive origins, from outcomes known at that origin.

    Adaptive conformal inference (Gibbs & Candès 2021) on the logarithm of the width: after each session it increases
    by `rate` × (fraction of misses among the outcomes of that session − 0.1).

    Args:
        scores: one row per origin, origins one session apart; entry [t, h-1] becomes known at origin t + h.
        rate: step of the logarithm per session.
    """
    n, horizon = scores.shape
    widths = np.ones(n)
    logarithm = 0.0
    for origin in range(1, n):
        steps = np.arange(1, min(horizon, origin) + 1)
        known = scores[origin - steps, steps - 1]
        known = known[np.isfinite(known)]
        if len(known):
            logarithm += rate * (float((known > math.exp(logarithm)).mean()) - (1 - NOMINAL))
        widths[origin] = math.exp(logarithm)
    return widths
