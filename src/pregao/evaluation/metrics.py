"""Scores of a forecast: RMSE and MAE in the stock's currency, MAPE in percent, overall and per step; bands."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError, MetricCollection
from torchmetrics.wrappers import MultioutputWrapper

Steps = Float[np.ndarray, "n horizon"]


def step_metrics(horizon: int) -> MetricCollection:
    """RMSE, MAE and MAPE (a fraction) for each step ahead, from prices `[B, horizon]`."""
    return MetricCollection(
        {
            "rmse": MeanSquaredError(squared=False, num_outputs=horizon),
            "mae": MeanAbsoluteError(num_outputs=horizon),
            "mape": MultioutputWrapper(MeanAbsolutePercentageError(), horizon),
        }
    )


def overall(per_step: dict[str, Tensor]) -> dict[str, float]:
    """One figure over all steps from those of each; MAPE becomes percent."""
    return {
        "rmse": per_step["rmse"].square().mean().sqrt().item(),
        "mae": per_step["mae"].mean().item(),
        "mape": 100 * per_step["mape"].mean().item(),
    }


def point_scores(y: Steps, y_hat: Steps) -> dict[str, float]:
    """`rmse mae mape` and `rmse_step_1 … mape_step_1 …` of forecasts against what came."""
    # In float64: a float32 sum over many windows would blur the fourth digit that decides between forecasts.
    metrics = step_metrics(y.shape[1]).set_dtype(torch.float64)
    metrics.update(torch.tensor(y_hat, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
    per_step = {name: value.reshape(-1) for name, value in metrics.compute().items()}  # one step alone has no axis
    scores = overall(per_step)
    for name, factor in (("rmse", 1), ("mape", 100)):
        scores |= {f"{name}_step_{h}": factor * value.item() for h, value in enumerate(per_step[name], start=1)}
    return scores


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
    error = (np.log(y / origin))[..., None] - np.log(quantiles / origin[..., None])
    return float(1000 * np.mean(np.maximum(levels * error, (levels - 1) * error)))
