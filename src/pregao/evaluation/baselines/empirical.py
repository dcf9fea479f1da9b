"""Baselines with the empirical quantiles of their standardised errors on the fit part."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.evaluation.baselines.base import Baseline, History, Levels, Logs, Origins, Quantiles, Returns

FitLogs = Float[np.ndarray, " fit"]

WINDOW = 20
"""Sessions in drift and in rolling volatility."""

DECAY = 0.94
"""Weight decay of squared returns per session (J.P. Morgan, RiskMetrics technical document, 4th ed. 1996, 5.3)."""

LEAST_SCALE = 1e-3
"""Minimum size of a daily log return: errors are divided by it, and a halted stock has returns of 0."""


def symmetric_quantiles(errors: Float[np.ndarray, " errors"], levels: np.ndarray) -> Float[np.ndarray, " levels"]:
    """Quantiles of the absolute errors, used on both sides of a median of 0."""
    spread: np.ndarray = np.sign(levels - 0.5) * np.quantile(np.abs(errors), np.abs(2 * levels - 1))
    return spread


class Empirical(Baseline[FitLogs]):
    """log close[t + h] = log close[t] + h · drift[t] ± scale[t] · spread[h], spread estimated on the fit part.

    The spread of each step is a quantile of the fit part's absolute standardised errors, used on both sides: the median
    is the point forecast, and the bands do not continue the fit part's trend.
    """

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Expected daily log return at each session of a history, given the fit part's returns."""
        return np.zeros_like(logs)

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """Size of a daily log return at each session of a history, given the fit part's returns."""
        return np.ones_like(logs)

    def estimate(self, history: History) -> FitLogs:
        """The log closes of the fit part: its errors depend on the horizon."""
        return history.logs

    def log_returns(self, fit: FitLogs, history: History, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """From drift and scale at each origin, and the spread of each step."""
        logs, returns = history.logs, np.diff(fit)
        drift = self.drift(logs, returns)[origins, None, None]
        scale = self.scale(logs, returns)[origins, None, None]
        steps = np.arange(1, horizon + 1)[:, None]
        moves: Quantiles = drift * steps + scale * self._spread(fit, horizon, np.array(levels))
        return moves

    def _spread(self, fit: FitLogs, horizon: int, levels: np.ndarray) -> Float[np.ndarray, "horizon levels"]:
        if len(fit) <= horizon:
            raise self.refused(
                f"was fitted on {len(fit)} closes; for bands {horizon} sessions ahead it needs at least {horizon + 1}. "
                "Give it a longer history, or a shorter horizon."
            )
        returns = np.diff(fit)
        drift, scale = self.drift(fit, returns), self.scale(fit, returns)
        rows = []
        for step in range(1, horizon + 1):
            errors = (fit[step:] - fit[:-step] - step * drift[:-step]) / scale[:-step]
            rows.append(symmetric_quantiles(errors, levels))
        return np.array(rows)


class LastClose(Empirical):
    """The last close for every step: a random walk."""

    name = "last close"


class Drift(Empirical):
    """The mean daily log return over the last 20 closes continues (Hyndman & Athanasopoulos, Forecasting, 5.2)."""

    name = "drift"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Over all closes while there are fewer than 20; 0 at the first."""
        first = np.maximum(np.arange(len(logs)) - (WINDOW - 1), 0)
        passed = np.arange(len(logs)) - first
        daily: Logs = (logs - logs[first]) / np.maximum(passed, 1)
        return daily


class MeanReturn(Empirical):
    """The fit part's mean daily log return continues."""

    name = "mean return"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Constant."""
        return np.full_like(logs, returns.mean())


class RollingVolatility(Empirical):
    """Last close, with bands proportional to the volatility of the last 20 returns."""

    name = "rolling volatility"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """RMS of 20 returns; those before the history are replaced by the fit part's mean square."""
        squares = np.concatenate([np.full(WINDOW, np.mean(returns**2)), np.diff(logs) ** 2])
        windows = np.lib.stride_tricks.sliding_window_view(squares, WINDOW)
        rms: Logs = np.maximum(np.sqrt(windows.mean(axis=1)), LEAST_SCALE)
        return rms


class Ewma(Empirical):
    """Last close, with bands proportional to RiskMetrics' exponentially weighted volatility."""

    name = "EWMA"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """Root of the weighted mean square, initialised with the fit part's mean square."""
        squares = pd.Series(np.concatenate([[np.mean(returns**2)], np.diff(logs) ** 2]))
        weighted = squares.ewm(alpha=1 - DECAY, adjust=False).mean().to_numpy()
        rms: Logs = np.maximum(np.sqrt(weighted), LEAST_SCALE)
        return rms
