"""GJR-GARCH of the daily returns, by the arch package."""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pregao.evaluation.baselines.base import (
    LEAST_ESTIMATED,
    Baseline,
    History,
    Levels,
    Origins,
    Quantiles,
    Returns,
)
from pregao.evaluation.baselines.simulated import Paths, Simulated, VarianceModel

log = logging.getLogger(__name__)

HALF_YEAR = 126
"""Sessions."""


@dataclass(frozen=True)
class GjrParameters(VarianceModel):
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
        variance: np.ndarray = lfilter([1], [1, -self.beta], np.concatenate([[first], self._from_return(returns)]))
        return variance

    def next(self, variance: Paths, returns: Paths) -> Paths:
        """The recursion, of many paths."""
        return self._from_return(returns) + self.beta * variance

    def _from_return(self, returns: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.omega + (self.alpha + self.gamma * (returns < 0)) * returns**2
        return found


class GjrGarch(Simulated[GjrParameters]):
    """GJR-GARCH(1,1,1) with Student-t shocks and no mean, simulated (Glosten, Jagannathan & Runkle 1993)."""

    name = "GJR-GARCH"

    def estimate(self, history: History) -> GjrParameters:
        """Maximum likelihood on returns in percent, by the arch package."""
        from arch import arch_model  # a second to import

        returns = history.percent
        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
        result = model.fit(disp="off", show_warning=False)
        if result.convergence_flag:
            log.warning("GJR-GARCH's likelihood did not converge on %d returns; its last point is used", len(returns))
        omega, alpha, gamma, beta, degrees = map(float, result.params)
        # If a stock hardly moves, the optimiser can violate alpha + gamma ≥ 0 slightly: variances would be negative.
        gamma = max(gamma, -alpha)
        return GjrParameters(omega, alpha, gamma, beta, degrees, float(model.volatility.backcast(returns)))


class GjrGarchRefitted(Baseline[tuple[int, GjrParameters]]):
    """GJR-GARCH whose parameters are estimated again every half-year after the fit part, on all closes until then."""

    name = "GJR-GARCH refitted"
    least_closes = LEAST_ESTIMATED
    must_move = True

    def estimate(self, history: History) -> tuple[int, GjrParameters]:
        """The number of sessions of the fit part, and its parameters."""
        return len(history), GjrGarch().estimate(history)

    def log_returns(
        self, fit: tuple[int, GjrParameters], history: History, origins: Origins, horizon: int, levels: Levels
    ) -> Quantiles:
        """From the parameters of the half-year of each origin."""
        (sessions, first), garch = fit, GjrGarch()
        halves = np.maximum(origins + 1 - sessions, 0) // HALF_YEAR
        moves = np.empty((len(origins), horizon, len(levels)))
        for half in np.unique(halves).tolist():
            parameters = garch.estimate(history.until(sessions + half * HALF_YEAR)) if half else first
            chosen = halves == half
            moves[chosen] = garch.log_returns(parameters, history, origins[chosen], horizon, levels)
        return moves
