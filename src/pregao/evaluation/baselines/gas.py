"""GAS-t: a variance that follows the score of its Student-t likelihood, by maximum likelihood."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pregao.evaluation.baselines.base import History, Returns
from pregao.evaluation.baselines.simulated import Paths, Simulated, VarianceModel

LEAST_DEGREES = 2.05
"""Of freedom: with 2 the variance is infinite."""


@dataclass(frozen=True)
class GasParameters(VarianceModel):
    """σ²[t + 1] = omega + alpha · (w[t] · r[t]² − σ²[t]) + beta · σ²[t], r in percent a day.

    w = (ν + 1) / (ν − 2 + r² / σ²) gives a large return less weight than GARCH does; w · r² − σ² is the score scaled by
    the inverse information, with its factor 1 + 3 / ν in alpha.

    Attributes:
        degrees: ν, degrees of freedom of the shocks, which have variance 1.
        past: mean square return of the fit part: the first variance.
    """

    omega: float
    alpha: float
    beta: float
    degrees: float
    past: float

    @classmethod
    def of(cls, free: Float[np.ndarray, "4"], past: float) -> "GasParameters":
        """From unbounded numbers, so that 0 < alpha < beta < 1: variances stay positive and return to a mean."""
        level, share, memory, tail = free.tolist()
        beta = 1 / (1 + math.exp(-memory))
        degrees = LEAST_DEGREES + math.exp(min(tail, 6.0))
        return cls(past * math.exp(level) * (1 - beta), beta / (1 + math.exp(-share)), beta, degrees, past)

    def variance(self, returns: Returns) -> Float[np.ndarray, " returns+1"]:
        """Variance of the session after each close, percent²; the first is `past`."""
        omega, alpha, kept, degrees = self.omega, self.alpha, self.beta - self.alpha, self.degrees
        variance, found = self.past, [self.past]
        for square in (returns**2).tolist():  # as in `next`, whose arrays would be slow here
            weight = (degrees + 1) / (degrees - 2 + square / variance)
            variance = omega + alpha * weight * square + kept * variance
            found.append(variance)
        return np.array(found)

    def next(self, variance: Paths, returns: Paths) -> Paths:
        """The recursion, of many paths."""
        squares = returns**2
        weight = (self.degrees + 1) / (self.degrees - 2 + squares / variance)
        ahead: Paths = self.omega + self.alpha * weight * squares + (self.beta - self.alpha) * variance
        return ahead

    def log_likelihood(self, returns: Returns) -> float:
        """Of the returns, in percent."""
        degrees, variance = self.degrees, self.variance(returns)[:-1]
        constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi * (degrees - 2)) / 2
        tails = (degrees + 1) / 2 * np.log1p(returns**2 / ((degrees - 2) * variance))
        return float((constant - np.log(variance) / 2 - tails).sum())


class GasT(Simulated[GasParameters]):
    """Student-t score-driven variance without a mean, simulated (Creal, Koopman & Lucas 2013, t-GAS)."""

    name = "GAS-t"

    def estimate(self, history: History) -> GasParameters:
        """Maximum likelihood on returns in percent."""
        from scipy.optimize import minimize

        returns = history.percent
        past = float(np.mean(returns**2))
        start = np.array([0.0, -2.5, 3.0, 1.5])  # alpha 0.07, beta 0.95, 6.5 degrees of freedom
        bounds = [(-3, 3), (-8, 4), (-3, 8), (-3, 6)]

        def loss(free: np.ndarray) -> float:
            return -GasParameters.of(free, past).log_likelihood(returns) / len(returns)

        found = minimize(loss, start, method="L-BFGS-B", bounds=bounds)
        return GasParameters.of(found.x, past)
