"""Bands from residuals: split-conformal offsets around a point forecast (Vovk; Lei et al. 2018)."""

import numpy as np
from jaxtyping import Float


def symmetric_offsets(
    residuals: Float[np.ndarray, "n horizon"], levels: tuple[float, ...]
) -> Float[np.ndarray, "horizon levels"]:
    """How far each quantile lies from the point forecast, in the residuals' unit; the median's offset is 0.

    The absolute residual's conformal quantile is laid on both sides: quantiles cannot cross, the point forecast stays
    the median, and the trend of the calibration part is not carried into the future. Steps are pooled, which their
    scaling by √step allows: a step's own overlapping windows are too few for its tails.
    """
    size = np.sort(np.abs(residuals).ravel())
    n = len(residuals)  # windows; the steps of one are no independent draws, so they do not sharpen the correction
    spread = np.array([np.quantile(size, min(1.0, abs(2 * level - 1) * (n + 1) / n)) for level in levels])
    side = np.sign(np.array(levels) - 0.5)
    return np.tile(side * spread, (residuals.shape[1], 1))
