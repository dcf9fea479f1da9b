"""Bands that are right about themselves: a conformal width to begin with, and a slow one while forecasts go on.

Both look at scores: how far an outcome lay from the median, in half-widths of the 90 % band, as log returns. A score
above 1 is a miss. The width multiplies all gaps of the fan alike, since single levels or stocks have too few windows,
and those overlap, to be calibrated apart.
"""

import math

import numpy as np
from jaxtyping import Float

from pregao.quantiles import MEDIAN, at

NOMINAL = 0.9
"""What the band between the levels 0.05 and 0.95 is to hold."""

RATE = 0.0075
"""How far an outcome moves the logarithm of the online width. Faster follows noise, slower lets a calm or a wild year
go by. Chosen between the two rates that did best on windows before the reference border."""


def band_scores(
    y: Float[np.ndarray, "n horizon"], quantiles: Float[np.ndarray, "n horizon 7"]
) -> Float[np.ndarray, "n horizon"]:
    """Distance of each outcome from the median in half-widths of the 90 % band; NaN where the outcome is not known."""
    median = quantiles[..., MEDIAN]
    half = np.log(at(quantiles, 0.95) / at(quantiles, 0.05)) / 2
    scores: np.ndarray = np.abs(np.log(y / median)) / half
    return scores


def conformal_width(scores: Float[np.ndarray, "n horizon"], windows: int) -> float:
    """The factor with which the 90 % band would have held 90 % of the outcomes.

    Split-conformal (Vovk; Lei et al. 2018). A calm year before a wild one makes it too narrow: it is for a network that
    has not learned its own quantiles.

    Args:
        scores: of forecasts that the network has not been fitted on, pooled over stocks and steps.
        windows: independent draws among them; the finite-sample correction follows from these.
    """
    known = scores[np.isfinite(scores)]
    return float(np.quantile(known, min(1.0, NOMINAL * (windows + 1) / windows))) if len(known) else 1.0


def online_widths(scores: Float[np.ndarray, "n horizon"], rate: float = RATE) -> Float[np.ndarray, " n"]:
    """The width at each of one stock's consecutive origins, from outcomes that were known by then.

    Adaptive conformal inference (Gibbs & Candès 2021) on the logarithm of the width: after each session it grows by
    `rate` × (share of misses among the outcomes of that session − 0.1).

    Args:
        scores: one row an origin, origins one session apart; entry [t, h-1] becomes known at origin t + h.
        rate: how far one session moves it.
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
