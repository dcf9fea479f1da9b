"""The quantile levels of every forecast, and the bands that are shown."""

import numpy as np
from jaxtyping import Float

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
MEDIAN = LEVELS.index(0.5)
"""The median is the point forecast."""

BANDS = {"lower_80": 0.1, "upper_80": 0.9, "lower_90": 0.05, "upper_90": 0.95}
"""Columns of every forecast table, with their levels."""

PRICES = ("close", *BANDS)
"""The price columns of a forecast."""


def at(quantiles: Float[np.ndarray, "*shape 7"], level: float) -> Float[np.ndarray, "*shape"]:
    """The values at one level."""
    values: np.ndarray = quantiles[..., LEVELS.index(level)]
    return values


def bands(quantiles: Float[np.ndarray, "rows 7"]) -> dict[str, Float[np.ndarray, " rows"]]:
    """The bands as columns."""
    return {name: at(quantiles, level) for name, level in BANDS.items()}


def widened(
    quantiles: Float[np.ndarray, "n horizon 7"], widths: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n horizon 7"]:
    """Multiply the distance of each quantile from the median, as a log return, by the origin's width."""
    median = quantiles[..., MEDIAN : MEDIAN + 1]
    with np.errstate(all="ignore"):  # the caller refuses forecasts that are not finite
        out: np.ndarray = median * (quantiles / median) ** widths[:, None, None]
    return out
