"""Metrics of forecasts, one function each, and `score_table`, which computes all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from pregao.quantiles import LEVELS

Steps = Float[np.ndarray, "n horizon"]
Quantiles = Float[np.ndarray, "n horizon levels"]

SHOWN_BANDS = 2
"""Number of central bands whose coverage is a score, starting with the widest."""


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of one forecaster, and the actual closes of the same windows.

    Attributes:
        y: actual closes, in the stock's currency.
        quantiles: forecast closes at each level.
        last_close: the last close of each window; without it skill is NaN.
        levels: probabilities in ascending order.
    """

    y: Steps
    quantiles: Quantiles
    last_close: Float[np.ndarray, " n"] | None = None
    levels: Sequence[float] = LEVELS

    @cached_property
    def point(self) -> Steps:
        """The median; without a level 0.5, the mean of the two levels around it, or NaN if one is missing."""
        above = int(np.searchsorted(self.levels, 0.5))
        below = above if 0.5 in self.levels else above - 1
        if not 0 <= below <= above < len(self.levels):
            return np.full_like(self.y, np.nan)
        point: np.ndarray = (self.quantiles[..., below] + self.quantiles[..., above]) / 2
        return point

    @cached_property
    def error(self) -> Steps:
        """Point forecast minus actual close."""
        error: np.ndarray = self.point - self.y
        return error

    @cached_property
    def naive(self) -> "Forecasts":
        """The last close as the forecast of every step."""
        last = np.full(len(self.y), np.nan) if self.last_close is None else self.last_close
        return Forecasts(self.y, np.broadcast_to(last[:, None, None], (*self.y.shape, 1)), last, (0.5,))


def rmse(forecasts: Forecasts) -> float:
    """Root mean squared error, in the stock's currency."""
    return float(np.sqrt(np.mean(forecasts.error**2)))


def mae(forecasts: Forecasts) -> float:
    """Mean absolute error, in the stock's currency."""
    return float(np.mean(np.abs(forecasts.error)))


def mape(forecasts: Forecasts) -> float:
    """Mean absolute error, in percent of the actual close."""
    return float(100 * np.mean(np.abs(forecasts.error) / forecasts.y))


def skill_rmse(forecasts: Forecasts) -> float:
    """RMSE reduction against last close, in percent."""
    return skill(rmse(forecasts), rmse(forecasts.naive))


def skill_mape(forecasts: Forecasts) -> float:
    """MAPE reduction against last close, in percent."""
    return skill(mape(forecasts), mape(forecasts.naive))


def band_coverage(forecasts: Forecasts) -> dict[str, float]:
    """Percent of the closes inside each of the outer bands: `coverage_80`, `coverage_90`."""
    quantiles, levels = forecasts.quantiles, forecasts.levels
    found = {}
    for low in reversed(range(min(SHOWN_BANDS, len(levels) // 2))):
        name = f"coverage_{round(100 * (levels[-1 - low] - levels[low]))}"
        found[name] = coverage(forecasts.y, quantiles[..., low], quantiles[..., -1 - low])
    return found


def pinball(forecasts: Forecasts) -> float:
    """Mean pinball loss of the log return over windows, steps and levels, × 1000 (Koenker & Bassett 1978)."""
    return float(np.mean(pinball_by_window(forecasts.y, forecasts.quantiles, forecasts.levels)))


METRICS: dict[str, Callable[[Forecasts], float | dict[str, float]]] = {
    function.__name__: function for function in (rmse, mae, mape, skill_rmse, skill_mape, band_coverage, pinball)
}
"""The columns of score tables in their order; a function of several columns returns them by name."""


def score_table(
    y: Steps,
    quantiles: Mapping[str, Quantiles],
    last_close: Float[np.ndarray, " n"] | None,
    levels: Sequence[float] = LEVELS,
) -> dict[str, dict[str, float]]:
    """Every metric of every forecaster, on the same windows.

    Args:
        y: actual closes, in the stock's currency.
        quantiles: forecast closes at `levels`, by forecaster.
        last_close: the last close of each window; without it skill is NaN.
        levels: probabilities in ascending order.

    Returns:
        By forecaster, its metrics by name.
    """
    return {name: _scores(Forecasts(y, forecast, last_close, levels)) for name, forecast in quantiles.items()}


def _scores(forecasts: Forecasts) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name, function in METRICS.items():
        found = function(forecasts)
        scores |= found if isinstance(found, dict) else {name: found}
    return scores


def skill(error: float, naive: float) -> float:
    """Reduction of the naive error in percent; negative for a worse forecast, NaN if the naive error is 0."""
    return 100 * (1 - error / naive) if naive else float("nan")


def coverage(y: Steps, lower: Steps, upper: Steps) -> float:
    """Percent of the closes inside the band, its borders included."""
    return float(100 * np.mean((lower <= y) & (y <= upper)))


def pinball_by_window(y: Steps, quantiles: Quantiles, levels: Sequence[float] = LEVELS) -> Float[np.ndarray, " n"]:
    """Each window's pinball loss of the log return, × 1000; log returns make stocks of different price comparable."""
    error, level = np.log(y[..., None] / quantiles), np.asarray(levels)
    losses: np.ndarray = 1000 * np.maximum(level * error, (level - 1) * error).mean(axis=(1, 2))
    return losses
