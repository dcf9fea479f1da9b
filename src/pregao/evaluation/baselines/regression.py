"""Regressions on a session's variance from its range and its overnight return: log-HAR, and linear quantiles."""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.data.variance import SPANS, daily_variance, future_variance, garman_klass, rolling_mean
from pregao.evaluation.baselines.base import Baseline, History, Levels, Origins, Quantiles
from pregao.evaluation.baselines.empirical import symmetric_quantiles
from pregao.evaluation.baselines.statsmodels import statsmodels
from pregao.quantiles import LEVELS

LEAST_REGRESSED = 150
"""Sessions with ranges for a fit: half a year in the longest mean, and as many targets as coefficients need."""

LEAST_MOVE = 1e-4
"""Minimum size of a quantile of the absolute log return: a linear one can be negative."""

MONTH = 1 + SPANS.index(22)
"""The column of a month's mean."""

Regressors = Float[np.ndarray, "sessions regressors"]


def returns_ahead(history: History, horizon: int) -> Float[np.ndarray, "sessions horizon"]:
    """The log return from each close to the next 1 … horizon; NaN after the history."""
    logs = np.concatenate([history.logs, np.full(horizon, np.nan)])
    windows = np.lib.stride_tricks.sliding_window_view(logs, horizon + 1)
    returns: np.ndarray = windows[:, 1:] - windows[:, :1]
    return returns


class Regression(Baseline[History]):
    """A regression per step on measures of the past sessions; fitted for the horizon that is asked for."""

    least_closes = LEAST_REGRESSED
    must_move = True

    def estimate(self, history: History) -> History:
        """The fit part itself.

        Raises:
            InvalidCloses: too few sessions have an open, a high and a low.
        """
        known = int(np.isfinite(daily_variance(history.prices)).sum())
        if known < self.least_closes - 1:
            raise self.refused(
                f"was given {len(history)} sessions to fit, {known} of them with open, high and low, and needs at "
                f"least {self.least_closes} with these. Use a source that has them, or leave that baseline out."
            )
        return history

    @staticmethod
    def at(
        measures: Callable[[History], Regressors], fit: History, history: History, origins: Origins
    ) -> tuple[Regressors, Float[np.ndarray, "n regressors"]]:
        """The measures of the fit part, NaN where unknown, and those of the origins.

        An origin without its own has the latest known before it, or the fit part's mean.
        """
        fitted = measures(fit)
        latest = pd.DataFrame(measures(history)).ffill().to_numpy()
        return fitted, np.where(np.isfinite(latest), latest, np.nanmean(fitted, axis=0))[origins]


def log_means(history: History) -> Regressors:
    """1, and the logarithms of the mean variance over a day, a week, a month and half a year."""
    variances = daily_variance(history.prices)
    return np.stack([np.ones(len(history)), *(np.log(rolling_mean(variances, span)) for span in SPANS)], axis=1)


class LogHar(Regression):
    """Heterogeneous autoregression of the log variance (Corsi 2009), from overnight returns and daily ranges.

    Least squares per step of the log mean variance until then; the quantiles of the fit part's standardised errors.
    """

    name = "log-HAR"

    def log_returns(self, fit: History, history: History, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Forecast volatility × symmetric empirical quantiles of the standardised returns, per step."""
        past, now = self.at(log_means, fit, history, origins)
        returns, targets = returns_ahead(fit, horizon), np.log(future_variance(daily_variance(fit.prices), horizon))
        moves = np.empty((len(origins), horizon, len(levels)))
        for step in range(horizon):
            known = np.isfinite(past).all(axis=1) & np.isfinite(targets[:, step])
            slopes = np.linalg.lstsq(past[known], targets[known, step])[0]
            errors = returns[known, step] / np.exp((past[known] @ slopes) / 2)
            # A sum instead of a matrix product, whose last bits depend on the number of origins.
            volatility = np.exp((now * slopes).sum(axis=1) / 2)
            moves[:, step] = volatility[:, None] * symmetric_quantiles(errors, np.array(levels))
        return moves


def volatility_means(history: History) -> Regressors:
    """1, volatilities from ranges over the spans of log-HAR, and from overnight returns over a day and a month."""
    ranges = garman_klass(history.prices)
    overnight = daily_variance(history.prices) - ranges
    measures = [rolling_mean(ranges, span) for span in SPANS] + [rolling_mean(overnight, span) for span in (1, 22)]
    return np.stack([np.ones(len(history)), *(np.sqrt(np.maximum(each, 0)) for each in measures)], axis=1)


class QuantileRegression(Regression):
    """Quantiles linear in ranges and overnight returns (Koenker & Bassett 1978; Meng & Taylor 2020).

    One regression per step and level, of the absolute log return, so that bands are symmetric like those of log-HAR.
    """

    name = "quantile regression"

    def log_returns(self, fit: History, history: History, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Sorted, so that the levels of a step never cross."""
        model = statsmodels(self.name, "statsmodels.regression.quantile_regression").QuantReg
        past, now = self.at(volatility_means, fit, history, origins)
        # Weighted by a month's volatility, or the most volatile weeks would decide the slopes.
        weight = 1 / np.maximum(past[:, [MONTH]], LEAST_MOVE)
        past, sizes = past * weight, np.abs(returns_ahead(fit, horizon)) * weight
        known = np.isfinite(past).all(axis=1)
        # The usual levels too, so that sorting does not depend on the levels that are asked for.
        inner = sorted({round(abs(2 * level - 1), 9) for level in (*LEVELS, *levels)} - {0.0})
        moves = np.zeros((len(origins), horizon, len(levels)))
        for step in range(horizon):
            rows = known & np.isfinite(sizes[:, step])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its last iteration is close enough where it does not converge
                found = [model(sizes[rows, step], past[rows]).fit(q=level, max_iter=200).params for level in inner]
            size = np.sort([np.maximum((now * slopes).sum(axis=1), LEAST_MOVE) for slopes in found], axis=0)
            for place, level in enumerate(levels):
                if level != 0.5:
                    each = size[inner.index(round(abs(2 * level - 1), 9))]
                    moves[:, step, place] = np.sign(level - 0.5) * each
        return moves
