"""Scores that need arrays alone: a server that shows them shall not wait for torchmetrics."""

import numpy as np
from jaxtyping import Float

Steps = Float[np.ndarray, "n horizon"]


def skill(error: float, naive: float) -> float:
    """Percent of the naive error that is saved; negative when the forecast is worse."""
    return 100 * (1 - error / naive) if naive else float("nan")


def coverage(y: Steps, lower: Steps, upper: Steps) -> float:
    """Percent of what came that lies inside the band."""
    return float(100 * np.mean((lower <= y) & (y <= upper)))


def pinball(y: Steps, quantiles: Float[np.ndarray, "n horizon levels"], last: np.ndarray, levels: np.ndarray) -> float:
    """Mean pinball loss of the log return since the last close `[n]`, × 1000, over windows, steps and levels.

    Koenker & Bassett (1978); in log returns, so that stocks of different price compare.
    """
    origin = last[:, None]
    return float(1000 * np.mean(_pinball(np.log(y / origin), np.log(quantiles / origin[..., None]), levels)))


def pinball_by_window(
    y: Steps, quantiles: Float[np.ndarray, "n horizon levels"], levels: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Each window's pinball loss of the log return, × 1000, for tests that need the order of the losses."""
    losses: np.ndarray = 1000 * _pinball(np.log(y), np.log(quantiles), levels).mean(axis=(1, 2))
    return losses


def _pinball(
    y: Steps, quantiles: Float[np.ndarray, "n horizon levels"], levels: np.ndarray
) -> Float[np.ndarray, "n horizon levels"]:
    error = y[..., None] - quantiles
    losses: np.ndarray = np.maximum(levels * error, (levels - 1) * error)
    return losses
