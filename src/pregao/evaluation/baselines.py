"""What a forecast must be held against: each takes the same inputs [N, lookback] and gives closes [N, horizon]."""

import numpy as np
from jaxtyping import Float

Inputs = Float[np.ndarray, "n lookback"]
Closes = Float[np.ndarray, "n horizon"]


def last_close(inputs: Inputs, horizon: int) -> Closes:
    """Tomorrow equals today: the random walk."""
    return np.repeat(inputs[:, -1:], horizon, axis=1)


def drift(inputs: Inputs, horizon: int) -> Closes:
    """The window's mean daily log return goes on (Hyndman & Athanasopoulos, Forecasting, 5.2)."""
    daily = np.log(inputs[:, -1:] / inputs[:, :1]) / (inputs.shape[1] - 1)
    return _growing(inputs, horizon, daily)


def mean_return(inputs: Inputs, horizon: int, daily: float) -> Closes:
    """The training part's mean daily log return goes on."""
    return _growing(inputs, horizon, daily)


def _growing(inputs: Inputs, horizon: int, daily: float | Float[np.ndarray, "n 1"]) -> Closes:
    closes: Closes = inputs[:, -1:] * np.exp(daily * np.arange(1, horizon + 1))
    return closes
