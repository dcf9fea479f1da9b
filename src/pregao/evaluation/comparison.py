"""How much better the forecasts of a model are than those of another one, on the same windows."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.data.windows import Windows
from pregao.evaluation.metrics import Forecasts, Quantiles, pinball_by_window
from pregao.evaluation.significance import BLOCK, LEAST_BLOCKS, Losses, Saved, coverage_gained, loss_saved
from pregao.quantiles import BANDS, at

UNITS = {"MAPE": "%", "pinball": "%", "80 % band": "points", "90 % band": "points"}
"""The measures of a comparison: percent of the other's loss, or percentage points of coverage."""


def compare(windows: Windows, model: Quantiles, other: Quantiles) -> dict[str, Saved]:
    """The improvement of a model on another one, by measure of `UNITS`; negative where the model is worse.

    For a band, the percentage points by which its coverage is nearer to the nominal one. Each is a mean over stocks,
    with an interval from a block bootstrap over dates, if they are at least four horizons. Windows without a forecast
    of the other one (NaN) are left out.
    """
    known = np.isfinite(other[:, 0, 0])
    windows = windows.where(known)
    new, old = (Forecasts(windows.targets, quantiles[known]) for quantiles in (model, other))
    block = _block(len(np.unique(windows.cutoffs)), windows.horizon)

    def by_date(values: Float[np.ndarray, " n"]) -> Losses:
        losses: Losses = pd.Series(values, [windows.cutoffs, windows.stocks]).unstack().to_numpy()
        return losses

    def saved(loss: Callable[[Forecasts], Float[np.ndarray, " n"]]) -> Saved:
        return loss_saved(by_date(loss(new)), by_date(loss(old)), block)

    def gained(nominal: int) -> Saved:
        return coverage_gained(by_date(_inside(new, nominal)), by_date(_inside(old, nominal)), nominal, block)

    return {
        "MAPE": saved(lambda one: (np.abs(one.error) / one.y).mean(axis=1)),
        "pinball": saved(lambda one: pinball_by_window(one.y, one.quantiles)),
        "80 % band": gained(80),
        "90 % band": gained(90),
    }


def _block(dates: int, horizon: int) -> int:
    """Dates per block: two horizons, or less where there would be too few blocks, but never less than a horizon."""
    return max(horizon, min(max(BLOCK, 2 * horizon), dates // LEAST_BLOCKS))


def _inside(forecasts: Forecasts, nominal: int) -> Float[np.ndarray, " n"]:
    """Percent of each window's closes inside the band."""
    lower, upper = (at(forecasts.quantiles, BANDS[f"{side}_{nominal}"]) for side in ("lower", "upper"))
    inside: np.ndarray = 100 * ((lower <= forecasts.y) & (forecasts.y <= upper)).mean(axis=1)
    return inside
