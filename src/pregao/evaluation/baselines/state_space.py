"""ETS and ARIMA of the log close, by statsmodels."""

import warnings
from abc import abstractmethod
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from pregao.evaluation.baselines.base import LEAST_ESTIMATED, Baseline, History, Levels, Logs, Origins, Quantiles
from pregao.evaluation.baselines.statsmodels import statsmodels

Parameters = Float[np.ndarray, " parameters"]

STATE_SPACE = "statsmodels.tsa.statespace.api"


class StateSpace(Baseline[Parameters]):
    """A linear Gaussian model of the log closes: fitted once, then filtered through a history with fixed parameters."""

    least_closes = LEAST_ESTIMATED
    must_move = True

    @abstractmethod
    def model(self, logs: Logs) -> Any:  # noqa: ANN401 - statsmodels has no types
        """Statsmodels' model of a history, initialised from its first close alone."""

    def estimate(self, history: History) -> Parameters:
        """Maximum likelihood on the fit part."""
        with warnings.catch_warnings():
            # On a random walk the likelihood is nearly flat, and statsmodels warns.
            warnings.simplefilter("ignore")
            result = self.model(history.logs).fit(disp=False, cov_type="none")
        return np.asarray(result.params)

    def log_returns(
        self, fit: Parameters, history: History, origins: Origins, horizon: int, levels: Levels
    ) -> Quantiles:
        """Gaussian quantiles from the state that the filter predicts after each origin."""
        logs = history.logs
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


class Ets(StateSpace):
    """Exponential smoothing of the log close, additive errors, damped trend (Hyndman et al. 2008, ETS(A,Ad,N))."""

    name = "ETS"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Starts at the first close, trend 0; statsmodels' other starts and its concentrated scale look ahead."""
        make = statsmodels(self.name, STATE_SPACE).ExponentialSmoothing
        start = {"initialization_method": "known", "initial_level": logs[0], "initial_trend": 0.0}
        return make(logs, trend=True, damped_trend=True, concentrate_scale=False, **start)


class Arima(StateSpace):
    """ARIMA(1,1,1) of the log close without a constant (Box & Jenkins 1970)."""

    name = "ARIMA"

    def model(self, logs: Logs) -> Any:  # noqa: ANN401
        """Statsmodels' SARIMAX, initialised with a diffuse level."""
        return statsmodels(self.name, STATE_SPACE).SARIMAX(logs, order=(1, 1, 1))
