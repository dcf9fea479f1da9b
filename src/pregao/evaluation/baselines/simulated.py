"""Quantiles of simulated paths: of a model that gives the variance of the next session."""

from abc import ABC, abstractmethod
from typing import TypeVar
from zlib import crc32

import numpy as np
from jaxtyping import Float

from pregao.evaluation.baselines.base import LEAST_ESTIMATED, Baseline, History, Levels, Origins, Quantiles, Returns

PATHS = 4000
"""Half of them have the negative shocks of the other half (antithetic variates)."""

SEED = 6544

Variance = Float[np.ndarray, " sessions"]
Paths = Float[np.ndarray, " paths"]


class VarianceModel(ABC):
    """A variance that each return changes; returns in percent a day.

    Attributes:
        degrees: of freedom of the shocks, which are Student's t with variance 1.
    """

    degrees: float

    @abstractmethod
    def variance(self, returns: Returns) -> Float[np.ndarray, " returns+1"]:
        """Variance of the session after each close, percent²; the first is computed from the fit part."""

    @abstractmethod
    def next(self, variance: Paths, returns: Paths) -> Paths:
        """Variance of the session after one with this variance and this return."""


Model = TypeVar("Model", bound=VarianceModel)


class Simulated(Baseline[Model]):
    """Student-t shocks without a mean; the quantiles are those of simulated paths."""

    least_closes = LEAST_ESTIMATED
    must_move = True

    @abstractmethod
    def estimate(self, history: History) -> Model:
        """The variance model of largest likelihood."""

    def log_returns(self, fit: Model, history: History, origins: Origins, horizon: int, levels: Levels) -> Quantiles:
        """Empirical quantiles of the paths from each origin."""
        variance = fit.variance(history.percent)
        rows = []
        for origin in origins.tolist():
            # A generator per stock and origin: with shared draws all forecasts would have the same error, and draws
            # from one stream would depend on the other origins.
            random = np.random.default_rng((SEED, crc32(history.stock.encode()), origin))
            # Sorted first: np.quantile's own partition takes three times as long.
            paths = np.sort(simulate(fit, variance[origin], horizon, random), axis=1)
            rows.append(np.quantile(paths, levels, axis=1).T)
        return np.reshape(rows, (len(origins), horizon, len(levels)))


def simulate(
    model: VarianceModel, variance: float, horizon: int, random: np.random.Generator
) -> Float[np.ndarray, "horizon paths"]:
    """Log returns from the last close to each step, from the variance of the next session."""
    degrees = model.degrees
    half = random.standard_t(degrees, (horizon, PATHS // 2)) * np.sqrt((degrees - 2) / degrees)
    paths = np.concatenate([half, -half], axis=1)
    ahead = np.full(PATHS, variance)
    for shock in paths:
        shock *= np.sqrt(ahead)  # becomes the return
        ahead = model.next(ahead, shock)
    returns: np.ndarray = paths.cumsum(axis=0) / 100
    return returns
