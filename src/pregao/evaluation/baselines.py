"""What a forecast must be held against: each is fitted on a history of closes and gives quantiles at any origin of one.

A price history is `[sessions]` closes in the stock's currency, oldest first, one a session; an origin is the index of
the last close that a forecast knows. Every row of quantiles comes from `closes[: origin + 1]` and the fit part alone,
and does not depend on which other origins are asked for.
"""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pregao.errors import InvalidChoice, InvalidCloses
from pregao.quantiles import LEVELS

log = logging.getLogger(__name__)

History = Float[np.ndarray, " sessions"]
Logs = Float[np.ndarray, " known"]
Returns = Float[np.ndarray, " returns"]
Origins = Int[np.ndarray, " n"]
Quantiles = Float[np.ndarray, "n horizon 7"]

WINDOW = 20
"""Sessions that drift and rolling volatility look back."""

DECAY = 0.94
"""Of daily squared returns (J.P. Morgan, RiskMetrics technical document, 4th ed. 1996, 5.3)."""

LEAST_SCALE = 1e-3
"""Of a daily log return: a stock that stood still for a month is no certainty, and nothing to divide by."""

LEAST_ESTIMATED = 60
"""Closes below which a likelihood of five parameters says nothing."""

PATHS = 1000
SEED = 6544
"""Of GJR-GARCH's simulation; another seed moves its mean pinball over 23 stocks by about 0.1 %."""


@runtime_checkable  # the tests check annotations where they are used
class FittedBaseline(Protocol):
    """A baseline that knows its fit part."""

    def quantiles(self, closes: History, origins: Origins, horizon: int) -> Quantiles:
        """Closes at `LEVELS`, 1 … horizon sessions after each origin, in the closes' unit; they never cross.

        Raises:
            InvalidCloses: a close up to the last origin is no positive number, an origin lies outside the history, or
                the fit part is too short for the horizon.
        """
        ...


class Baseline(Protocol):
    """A forecaster that is made without arguments."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    def fit(self, closes: History) -> FittedBaseline:
        """Learn from a history.

        Raises:
            InvalidCloses: too few closes, one that is no positive number, or closes that never move where a variance
                has to be estimated.
            InvalidChoice: a package that this baseline needs is not installed.
        """
        ...


class _Empirical:
    """log close[t + h] = log close[t] + h · drift[t] ± scale[t] · spread[h], whose spread the fit part shows.

    Each step's spread is the empirical quantile of the fit part's own absolute standardised misses, laid on both sides:
    the median is the point forecast, and the fit part's trend is not carried on by the bands.
    """

    name: str

    def fit(self, closes: History) -> FittedBaseline:
        """Keep the fit part: its misses are read when the horizon is known."""
        return _FittedEmpirical(self, _logs(self.name, closes, least=2))

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Expected daily log return at each session of a history, given the fit part's returns."""
        return np.zeros_like(logs)

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """Size of a daily log return at each session of a history, given the fit part's returns."""
        return np.ones_like(logs)


class LastClose(_Empirical):
    """Tomorrow equals today: the random walk."""

    name = "last close"


class Drift(_Empirical):
    """The mean daily log return over the last 20 closes goes on (Hyndman & Athanasopoulos, Forecasting, 5.2)."""

    name = "drift"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """Over what there is, where there are fewer than 20 closes; 0 at the first."""
        first = np.maximum(np.arange(len(logs)) - (WINDOW - 1), 0)
        gone = np.arange(len(logs)) - first
        daily: Logs = (logs - logs[first]) / np.maximum(gone, 1)
        return daily


class MeanReturn(_Empirical):
    """The fit part's mean daily log return goes on."""

    name = "mean return"

    def drift(self, logs: Logs, returns: Returns) -> Logs:
        """The same everywhere."""
        return np.full_like(logs, returns.mean())


class RollingVolatility(_Empirical):
    """Last close, with bands as wide as the last 20 returns were large."""

    name = "rolling volatility"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """RMS of 20 returns; the fit part's mean square stands for those before the history begins."""
        squares = np.concatenate([np.full(WINDOW, np.mean(returns**2)), np.diff(logs) ** 2])
        windows = np.lib.stride_tricks.sliding_window_view(squares, WINDOW)
        rms: Logs = np.maximum(np.sqrt(windows.mean(axis=1)), LEAST_SCALE)
        return rms


class Ewma(_Empirical):
    """Last close, with bands as wide as RiskMetrics' exponentially weighted volatility."""

    name = "EWMA"

    def scale(self, logs: Logs, returns: Returns) -> Logs:
        """Root of the weighted mean square, which begins at the fit part's."""
        squares = pd.Series(np.concatenate([[np.mean(returns**2)], np.diff(logs) ** 2]))
        weighted = squares.ewm(alpha=1 - DECAY, adjust=False).mean().to_numpy()
        rms: Logs = np.maximum(np.sqrt(weighted), LEAST_SCALE)
        return rms


@dataclass(frozen=True)
class _FittedEmpirical:
    baseline: _Empirical
    known: Logs  # the fit part's log closes

    def quantiles(self, closes: History, origins: Origins, horizon: int) -> Quantiles:
        logs = _asked(self.baseline.name, closes, origins, horizon)
        returns = np.diff(self.known)
        drift = self.baseline.drift(logs, returns)[origins, None, None]
        scale = self.baseline.scale(logs, returns)[origins, None, None]
        steps = np.arange(1, horizon + 1)[:, None]
        return _closes(self.baseline.name, closes[origins], drift * steps + scale * self._spread(horizon))

    def _spread(self, horizon: int) -> Float[np.ndarray, "horizon 7"]:
        if len(self.known) <= horizon:
            raise InvalidCloses(
                f"The baseline {self.baseline.name!r} was fitted on {len(self.known)} closes, and its bands "
                f"{horizon} sessions ahead need at least {horizon + 1}. Give it a longer history, or a shorter horizon."
            )
        returns = np.diff(self.known)
        drift = self.baseline.drift(self.known, returns)
        scale = self.baseline.scale(self.known, returns)
        levels = np.array(LEVELS)
        rows = []
        for step in range(1, horizon + 1):
            misses = (self.known[step:] - self.known[:-step] - step * drift[:-step]) / scale[:-step]
            rows.append(np.sign(levels - 0.5) * np.quantile(np.abs(misses), np.abs(2 * levels - 1)))
        return np.array(rows)


class GjrGarch:
    """GJR-GARCH(1,1,1) with Student-t shocks and no mean, simulated (Glosten, Jagannathan & Runkle 1993)."""

    name = "GJR-GARCH"

    def fit(self, closes: History) -> "FittedGjrGarch":
        """Maximum likelihood of the fit part's returns in percent, as the arch package does it."""
        from arch import arch_model  # a second to import, for those who simulate

        returns = 100 * np.diff(_moving_logs(self.name, closes))
        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
        result = model.fit(disp="off", show_warning=False)
        if result.convergence_flag:
            log.warning("GJR-GARCH's likelihood did not converge on %d returns; its last point is used", len(returns))
        omega, alpha, gamma, beta, degrees = map(float, result.params)
        # Where a stock hardly moves the optimiser leaves alpha + gamma ≥ 0 by a hair: variances would turn negative.
        gamma = max(gamma, -alpha)
        return FittedGjrGarch(omega, alpha, gamma, beta, degrees, float(model.volatility.backcast(returns)))


@dataclass(frozen=True)
class FittedGjrGarch:
    """σ²[t + 1] = omega + (alpha + gamma · 1{r[t] < 0}) · r[t]² + beta · σ²[t], r in percent a day.

    Attributes:
        degrees: of freedom of the shocks, which have variance 1.
        past: mean square return that stands for all before a history begins.
    """

    omega: float
    alpha: float
    gamma: float
    beta: float
    degrees: float
    past: float

    def variance(self, returns: Returns) -> Float[np.ndarray, " returns+1"]:
        """Of the session after each close of a history, percent²; the first knows no return."""
        from scipy.signal import lfilter

        first = self.omega + (self.alpha + self.gamma / 2 + self.beta) * self.past
        pushes = self.omega + (self.alpha + self.gamma * (returns < 0)) * returns**2
        variance: np.ndarray = lfilter([1], [1, -self.beta], np.concatenate([[first], pushes]))
        return variance

    def quantiles(self, closes: History, origins: Origins, horizon: int) -> Quantiles:
        """Empirical quantiles of 1,000 simulated paths an origin."""
        logs = _asked(GjrGarch.name, closes, origins, horizon)
        variance = self.variance(100 * np.diff(logs))
        rows = [self._simulated(variance[origin], origin, horizon) for origin in origins.tolist()]
        return _closes(GjrGarch.name, closes[origins], np.reshape(rows, (len(origins), horizon, len(LEVELS))))

    def _simulated(self, variance: float, origin: int, horizon: int) -> Float[np.ndarray, "horizon 7"]:
        # Each origin has draws of its own: shared ones would be one luck for all, a stream's would hang on the others.
        shocks = np.random.default_rng((SEED, origin)).standard_t(self.degrees, (horizon, PATHS))
        shocks *= np.sqrt((self.degrees - 2) / self.degrees)
        ahead = np.full(PATHS, variance)
        for shock in shocks:
            shock *= np.sqrt(ahead)  # becomes the return
            ahead = self.omega + (self.alpha + self.gamma * (shock < 0)) * shock**2 + self.beta * ahead
        return np.quantile(shocks.cumsum(axis=0) / 100, LEVELS, axis=1).T


class _StateSpace(ABC):
    """A linear Gaussian model of the log closes: fitted once, then filtered through a history, parameters held."""

    name: str

    def fit(self, closes: History) -> FittedBaseline:
        """Maximum likelihood on the fit part."""
        model = self.model(_moving_logs(self.name, closes))
        with warnings.catch_warnings():
            # On a random walk the parameters nearly cancel: the likelihood is flat, and statsmodels says so at length.
            warnings.simplefilter("ignore")
            result = model.fit(disp=False, cov_type="none")
        return _FittedStateSpace(self, np.asarray(result.params))

    @abstractmethod
    def model(self, logs: Logs) -> Any:  # noqa: ANN401 - statsmodels has no types
        """Statsmodels' model of a history, whose beginning knows no more than the first close."""


class Ets(_StateSpace):
    """Exponential smoothing of the log close, additive errors, damped trend (Hyndman et al. 2008, ETS(A,Ad,N))."""

    name = "ETS"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Begins at the first close without a trend; the other beginnings, and a concentrated scale, look ahead."""
        make = _statsmodels(self.name).ExponentialSmoothing
        begin = {"initialization_method": "known", "initial_level": logs[0], "initial_trend": 0.0}
        return make(logs, trend=True, damped_trend=True, concentrate_scale=False, **begin)


class Arima(_StateSpace):
    """ARIMA(1,1,1) of the log close without a constant (Box & Jenkins 1970)."""

    name = "ARIMA"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Begins with a diffuse level."""
        return _statsmodels(self.name).SARIMAX(logs, order=(1, 1, 1))


@dataclass(frozen=True)
class _FittedStateSpace:
    baseline: _StateSpace
    parameters: Float[np.ndarray, " parameters"]

    def quantiles(self, closes: History, origins: Origins, horizon: int) -> Quantiles:
        logs = _asked(self.baseline.name, closes, origins, horizon)
        filtered = self.baseline.model(logs).filter(self.parameters, cov_type="none").filter_results
        design, transition = filtered.design[..., 0], filtered.transition[..., 0]
        noise = filtered.selection[..., 0] @ filtered.state_cov[..., 0] @ filtered.selection[..., 0].T
        # What the filter predicts of the session after each origin; from there the model's own recursion.
        state = filtered.predicted_state.T[origins + 1]
        spread = np.moveaxis(filtered.predicted_state_cov, -1, 0)[origins + 1]
        normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
        steps = []
        for _ in range(horizon):
            variance = (design @ spread @ design.T)[:, 0]
            steps.append(state @ design.T + np.sqrt(variance) * normal)
            state, spread = state @ transition.T, transition @ spread @ transition.T + noise
        moves = np.stack(steps, axis=1) - logs[origins, None, None]
        return _closes(self.baseline.name, closes[origins], moves)


def _statsmodels(name: str) -> ModuleType:
    try:
        return import_module("statsmodels.tsa.statespace.api")
    except ImportError as error:
        raise InvalidChoice(
            f"The baseline {name!r} needs the package statsmodels, which cannot be imported here ({error}). Install "
            "Pregão's extra `classical` (pip install -e '.[classical]' in its folder), or leave that baseline out."
        ) from error


def _logs(name: str, closes: History, least: int) -> Logs:
    """The log closes of a fit part."""
    if len(closes) < least:
        raise InvalidCloses(
            f"The baseline {name!r} was given {len(closes)} closes to fit, and needs at least {least}. Give it a "
            "longer history."
        )
    _refuse_unless_prices(name, closes)
    logs: Logs = np.log(closes)
    return logs


def _moving_logs(name: str, closes: History) -> Logs:
    """The log closes of a fit part that holds enough for a likelihood."""
    logs = _logs(name, closes, LEAST_ESTIMATED)
    if np.ptp(logs) == 0:
        raise InvalidCloses(
            f"The baseline {name!r} was given {len(closes)} closes that are all {closes[0]:g}: a price that never "
            "moves has no variance to estimate. Give it a longer history, or leave that baseline out."
        )
    return logs


def _asked(name: str, closes: History, origins: Origins, horizon: int) -> Logs:
    """The log closes up to the last origin; what comes later is not looked at, not even to check it."""
    if horizon < 1:
        raise InvalidCloses(f"The baseline {name!r} was asked {horizon} sessions ahead; allowed are 1 and more.")
    if len(origins) and not 0 <= origins.min() <= origins.max() < len(closes):
        raise InvalidCloses(
            f"The baseline {name!r} was asked for origins {origins.min()} to {origins.max()} of {len(closes)} closes; "
            f"allowed are 0 to {len(closes) - 1}."
        )
    known = closes[: origins.max() + 1] if len(origins) else closes[:1]
    _refuse_unless_prices(name, known)
    logs: Logs = np.log(known)
    return logs


def _refuse_unless_prices(name: str, closes: History) -> None:
    wrong = ~(np.isfinite(closes) & (closes > 0))
    if wrong.any():
        place = int(wrong.argmax())
        raise InvalidCloses(
            f"The baseline {name!r} was given {closes[place]:g} as close {place} of {len(closes)}; allowed are "
            "positive numbers. Mend the history, or leave that session out."
        )


def _closes(name: str, last: Float[np.ndarray, " n"], moves: Float[np.ndarray, "n horizon 7"]) -> Quantiles:
    """Log returns since the last close as closes."""
    with np.errstate(over="ignore", invalid="ignore"):
        quantiles: Quantiles = last[:, None, None] * np.exp(moves)
    if not np.isfinite(quantiles).all():
        raise InvalidCloses(
            f"The baseline {name!r} found closes that are beyond any number: the fit part's moves are no price's. "
            "Check the history, or leave that baseline out."
        )
    return quantiles


_ALL: tuple[Callable[[], Baseline], ...] = (LastClose, Drift, MeanReturn, RollingVolatility, Ewma, GjrGarch, Ets, Arima)

BASELINES: dict[str, Callable[[], Baseline]] = {make().name: make for make in _ALL}
"""Classes by name; ETS and ARIMA need the extra `classical`."""
