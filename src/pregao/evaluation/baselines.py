"""Baselines: simple forecasters, fitted on a history of closes, with quantiles at any origin of a history.

A history is `[sessions]` closes in the stock's currency, oldest first, one per session; an origin is the index of the
last close that a forecast knows. A row of quantiles depends only on `closes[: origin + 1]` and the fit part, not on the
other origins.
"""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pregao.errors import InvalidChoice, InvalidCloses, PregaoError
from pregao.quantiles import LEVELS

log = logging.getLogger(__name__)

History = Float[np.ndarray, " sessions"]
Logs = Float[np.ndarray, " known"]
FitLogs = Float[np.ndarray, " fit"]
Returns = Float[np.ndarray, " returns"]
Origins = Int[np.ndarray, " n"]
Quantiles = Float[np.ndarray, "n horizon levels"]
Levels = Sequence[float]
Parameters = Float[np.ndarray, " parameters"]
Fit = TypeVar("Fit")

WINDOW = 20
"""Sessions in drift and in rolling volatility."""

DECAY = 0.94
"""Weight decay of squared returns per session (J.P. Morgan, RiskMetrics technical document, 4th ed. 1996, 5.3)."""

LEAST_SCALE = 1e-3
"""Minimum size of a daily log return: errors are divided by it, and a halted stock has returns of 0."""

LEAST_ESTIMATED = 60
"""Closes needed to fit five parameters by maximum likelihood."""

PATHS = 1000
SEED = 6544
"""Of GJR-GARCH's simulation; another seed changes its mean pinball over 23 stocks by about 0.1 %."""


BASELINES: dict[str, type["Baseline[Any]"]] = {}
"""Classes by name; ETS and ARIMA need the extra `classical`."""


class Baseline(ABC, Generic[Fit]):
    """A forecaster without constructor arguments.

    A subclass implements `estimate` and `log_returns`; one that defines `name` is registered in `BASELINES`. Closes,
    origins and results are checked here.

    Attributes:
        name: shown in tables.
        least_closes: minimum number of closes for a fit.
        must_move: whether a fit estimates a variance, and so needs a price that changes.
    """

    name: ClassVar[str]
    least_closes: ClassVar[int] = 2
    must_move: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            BASELINES[cls.name] = cls

    def fit(self, closes: History) -> "FittedBaseline[Fit]":
        """Estimate the parameters on a history.

        Raises:
            InvalidCloses: there are too few closes, one is not a positive number, or all are equal and a variance must
                be estimated.
            InvalidChoice: a required package is not installed.
        """
        n = len(closes)
        if n < self.least_closes:
            raise self.refused(
                f"was given {n} closes to fit, and needs at least {self.least_closes}. Give it a longer history."
            )
        logs = self.logs(closes)
        if self.must_move and np.ptp(logs) == 0:
            raise self.refused(
                f"was given {n} closes that are all {closes[0]:g}: a price that never moves has no variance to "
                "estimate. Give it a longer history, or leave that baseline out."
            )
        return FittedBaseline(self, self.estimate(logs))

    @abstractmethod
    def estimate(self, logs: Logs) -> Fit:
        """Parameters from the log closes of the fit part."""

    @abstractmethod
    def log_returns(self, fit: Fit, logs: Logs, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Quantiles of the log return from the last close to each step, 1 … horizon sessions after each origin."""

    def logs(self, closes: History) -> Logs:
        """The log closes; raises InvalidCloses if one is not a positive number."""
        wrong = ~(np.isfinite(closes) & (closes > 0))
        if wrong.any():
            place = int(wrong.argmax())
            raise self.refused(
                f"was given {closes[place]:g} as close {place} of {len(closes)}; allowed are positive numbers. "
                "Correct the history, or leave that session out."
            )
        logs: Logs = np.log(closes)
        return logs

    def refused(self, what: str) -> InvalidCloses:
        """The error of this baseline, to raise."""
        return InvalidCloses(f"The baseline {self.name!r} {what}")


@dataclass(frozen=True)
class FittedBaseline(Generic[Fit]):
    """A baseline with estimated parameters."""

    baseline: Baseline[Fit]
    parameters: Fit

    def quantiles(self, closes: History, origins: Origins, horizon: int, levels: Levels = LEVELS) -> Quantiles:
        """Closes at `levels`, 1 … horizon sessions after each origin, in the closes' unit; they never cross.

        Raises:
            InvalidCloses: a close up to the last origin is not a positive number, an origin is outside the history,
                the fit part is too short for the horizon, or a quantile is not finite.
        """
        baseline, n = self.baseline, len(closes)
        if horizon < 1:
            raise baseline.refused(f"was asked to forecast {horizon} sessions ahead; allowed are 1 and more.")
        if len(origins) and not 0 <= origins.min() <= origins.max() < n:
            requested = f"{origins.min()} to {origins.max()} of {n} closes"
            raise baseline.refused(f"was asked for origins {requested}; allowed are 0 to {n - 1}.")
        logs = baseline.logs(closes[: origins.max() + 1] if len(origins) else closes[:1])
        moves = baseline.log_returns(self.parameters, logs, origins, horizon, levels)
        with np.errstate(over="ignore", invalid="ignore"):
            quantiles: Quantiles = closes[origins, None, None] * np.exp(moves)
        if not np.isfinite(quantiles).all():
            raise baseline.refused(
                "computed quantiles that are not finite: the returns of the fit part are too large for a price. Check "
                "the history, or leave that baseline out."
            )
        return quantiles


class _Empirical(Baseline[FitLogs]):
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

    def estimate(self, logs: Logs) -> Logs:
        """The fit part itself: its errors depend on the horizon."""
        return logs

    def log_returns(self, fit: FitLogs, logs: Logs, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """From drift and scale at each origin, and the spread of each step."""
        returns = np.diff(fit)
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
            rows.append(np.sign(levels - 0.5) * np.quantile(np.abs(errors), np.abs(2 * levels - 1)))
        return np.array(rows)


class LastClose(_Empirical):
    """The last close for every step: a random walk."""

    name = "last close"


class Drift(_Empirical):
    """The mean daily log return over the last 20 closes continues (Hyndman & Athanasopoulos, Forecasting, 5.2)."""

    name = "drift"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Over all closes while there are fewer than 20; 0 at the first."""
        first = np.maximum(np.arange(len(logs)) - (WINDOW - 1), 0)
        passed = np.arange(len(logs)) - first
        daily: Logs = (logs - logs[first]) / np.maximum(passed, 1)
        return daily


class MeanReturn(_Empirical):
    """The fit part's mean daily log return continues."""

    name = "mean return"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Constant."""
        return np.full_like(logs, returns.mean())


class RollingVolatility(_Empirical):
    """Last close, with bands proportional to the volatility of the last 20 returns."""

    name = "rolling volatility"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """RMS of 20 returns; those before the history are replaced by the fit part's mean square."""
        squares = np.concatenate([np.full(WINDOW, np.mean(returns**2)), np.diff(logs) ** 2])
        windows = np.lib.stride_tricks.sliding_window_view(squares, WINDOW)
        rms: Logs = np.maximum(np.sqrt(windows.mean(axis=1)), LEAST_SCALE)
        return rms


class Ewma(_Empirical):
    """Last close, with bands proportional to RiskMetrics' exponentially weighted volatility."""

    name = "EWMA"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """Root of the weighted mean square, initialised with the fit part's mean square."""
        squares = pd.Series(np.concatenate([[np.mean(returns**2)], np.diff(logs) ** 2]))
        weighted = squares.ewm(alpha=1 - DECAY, adjust=False).mean().to_numpy()
        rms: Logs = np.maximum(np.sqrt(weighted), LEAST_SCALE)
        return rms


@dataclass(frozen=True)
class GjrParameters:
    """σ²[t + 1] = omega + (alpha + gamma · 1{r[t] < 0}) · r[t]² + beta · σ²[t], r in percent a day.

    Attributes:
        degrees: of freedom of the shocks, which have variance 1.
        past: mean square return before the history.
    """

    omega: float
    alpha: float
    gamma: float
    beta: float
    degrees: float
    past: float

    def variance(self, returns: Returns) -> Float[np.ndarray, " returns+1"]:
        """Variance of the session after each close, percent²; the first is computed from `past`."""
        from scipy.signal import lfilter

        first = self.omega + (self.alpha + self.gamma / 2 + self.beta) * self.past
        shocks = self.omega + (self.alpha + self.gamma * (returns < 0)) * returns**2
        variance: np.ndarray = lfilter([1], [1, -self.beta], np.concatenate([[first], shocks]))
        return variance

    def paths(self, variance: float, origin: int, horizon: int) -> Float[np.ndarray, "horizon paths"]:
        """Simulated log returns from the last close to each step, from the variance of the next session."""
        # A generator per origin: with shared draws all forecasts would have the same error, and draws from one stream
        # would depend on the other origins.
        shocks = np.random.default_rng((SEED, origin)).standard_t(self.degrees, (horizon, PATHS))
        shocks *= np.sqrt((self.degrees - 2) / self.degrees)
        weights = self.alpha + self.gamma * (shocks < 0)
        ahead = np.full(PATHS, variance)
        for shock, weight in zip(shocks, weights, strict=True):
            shock *= np.sqrt(ahead)  # becomes the return
            ahead = self.omega + weight * shock**2 + self.beta * ahead
        return shocks.cumsum(axis=0) / 100


class GjrGarch(Baseline[GjrParameters]):
    """GJR-GARCH(1,1,1) with Student-t shocks and no mean, simulated (Glosten, Jagannathan & Runkle 1993)."""

    name = "GJR-GARCH"
    least_closes = LEAST_ESTIMATED
    must_move = True

    def estimate(self, logs: Logs) -> GjrParameters:
        """Maximum likelihood on returns in percent, by the arch package."""
        from arch import arch_model  # a second to import

        returns = 100 * np.diff(logs)
        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
        result = model.fit(disp="off", show_warning=False)
        if result.convergence_flag:
            log.warning("GJR-GARCH's likelihood did not converge on %d returns; its last point is used", len(returns))
        omega, alpha, gamma, beta, degrees = map(float, result.params)
        # If a stock hardly moves, the optimiser can violate alpha + gamma ≥ 0 slightly: variances would be negative.
        gamma = max(gamma, -alpha)
        return GjrParameters(omega, alpha, gamma, beta, degrees, float(model.volatility.backcast(returns)))

    def log_returns(self, fit: GjrParameters, logs: Logs, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Empirical quantiles of 1,000 simulated paths per origin."""
        variance = fit.variance(100 * np.diff(logs))
        # Sorted first: np.quantile's own partition takes three times as long.
        paths = (np.sort(fit.paths(variance[origin], origin, horizon), axis=1) for origin in origins.tolist())
        rows = [np.quantile(sorted_paths, levels, axis=1).T for sorted_paths in paths]
        return np.reshape(rows, (len(origins), horizon, len(levels)))


class _StateSpace(Baseline[Parameters]):
    """A linear Gaussian model of the log closes: fitted once, then filtered through a history with fixed parameters."""

    least_closes = LEAST_ESTIMATED
    must_move = True

    @abstractmethod
    def model(self, logs: Logs) -> Any:  # noqa: ANN401 - statsmodels has no types
        """Statsmodels' model of a history, initialised from its first close alone."""

    def estimate(self, logs: Logs) -> Parameters:
        """Maximum likelihood on the fit part."""
        with warnings.catch_warnings():
            # On a random walk the likelihood is nearly flat, and statsmodels warns.
            warnings.simplefilter("ignore")
            result = self.model(logs).fit(disp=False, cov_type="none")
        return np.asarray(result.params)

    def log_returns(self, fit: Parameters, logs: Logs, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Gaussian quantiles from the state that the filter predicts after each origin."""
        filtered = self.model(logs).filter(fit, cov_type="none").filter_results
        design, transition = filtered.design[..., 0], filtered.transition[..., 0]
        noise = filtered.selection[..., 0] @ filtered.state_cov[..., 0] @ filtered.selection[..., 0].T
        state = filtered.predicted_state.T[origins + 1]
        spread = np.moveaxis(filtered.predicted_state_cov, -1, 0)[origins + 1]
        normal = np.array([NormalDist().inv_cdf(level) for level in levels])
        steps = []
        for _ in range(horizon):
            variance = (design @ spread @ design.T)[:, 0]
            steps.append(state @ design.T + np.sqrt(variance) * normal)
            state, spread = state @ transition.T, transition @ spread @ transition.T + noise
        moves: Quantiles = np.stack(steps, axis=1) - logs[origins, None, None]
        return moves


class Ets(_StateSpace):
    """Exponential smoothing of the log close, additive errors, damped trend (Hyndman et al. 2008, ETS(A,Ad,N))."""

    name = "ETS"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Starts at the first close, trend 0; statsmodels' other starts and its concentrated scale look ahead."""
        make = _statsmodels(self.name).ExponentialSmoothing
        start = {"initialization_method": "known", "initial_level": logs[0], "initial_trend": 0.0}
        return make(logs, trend=True, damped_trend=True, concentrate_scale=False, **start)


class Arima(_StateSpace):
    """ARIMA(1,1,1) of the log close without a constant (Box & Jenkins 1970)."""

    name = "ARIMA"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Statsmodels' SARIMAX, initialised with a diffuse level."""
        return _statsmodels(self.name).SARIMAX(logs, order=(1, 1, 1))


def _statsmodels(name: str) -> ModuleType:
    try:
        return import_module("statsmodels.tsa.statespace.api")
    except ImportError as error:
        raise InvalidChoice(
            f"The baseline {name!r} needs the package statsmodels, which cannot be imported ({error}). Install "
            "Pregão's extra `classical` (pip install -e '.[classical]' in its folder), or leave that baseline out."
        ) from error


def stock_forecasts(
    baselines: Mapping[str, type[Baseline[Any]]],
    past: pd.Series,
    prices: pd.DataFrame,
    cutoffs: np.ndarray,
    horizon: int,
) -> tuple[dict[str, Quantiles], dict[str, PregaoError]]:
    """Quantiles of some baselines for one stock, and the errors of the others, by name.

    Args:
        baselines: classes by name; a worker process may have registered fewer than this process.
        past: the closes of the fit part.
        prices: `date close`, up to the last cutoff at least.
        cutoffs: the dates of the forecasts' last closes.
        horizon: sessions ahead.
    """
    closes = prices["close"].to_numpy(np.float64)
    origins = np.searchsorted(prices["date"].to_numpy("datetime64[ns]"), cutoffs)
    forecasts, refused = {}, {}
    for name, baseline in baselines.items():
        try:
            forecasts[name] = baseline().fit(past.to_numpy(np.float64)).quantiles(closes, origins, horizon)
        except PregaoError as error:
            refused[name] = error
    return forecasts, refused
