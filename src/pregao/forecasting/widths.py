"""Baselines with the online width that the models have: from outcomes known at each origin."""

from typing import Any, ClassVar

import numpy as np

from pregao.evaluation.baselines import (
    BASELINES,
    Baseline,
    Ewma,
    FittedBaseline,
    GjrGarch,
    History,
    LogHar,
    baselines_named,
)
from pregao.evaluation.baselines.base import Levels, Origins, Quantiles
from pregao.evaluation.baselines.regression import returns_ahead
from pregao.models.calibration import band_scores, online_widths
from pregao.quantiles import LEVELS, MEDIAN

__all__ = ["BASELINES", "EwmaWithWidth", "GjrGarchWithWidth", "LogHarWithWidth", "baselines_named"]

WARM_UP = 250
"""Sessions of the fit part in which the width starts to follow the misses, like a model's validation part."""


class OnlineWidth(Baseline[tuple[int, FittedBaseline[Any]]]):
    """Another baseline, whose bands a factor multiplies."""

    of: ClassVar[type[Baseline[Any]]]

    def fit(self, history: History) -> FittedBaseline[tuple[int, FittedBaseline[Any]]]:
        """The other baseline's fit, which refuses what it does not accept."""
        return FittedBaseline(self, self.estimate(history))

    def estimate(self, history: History) -> tuple[int, FittedBaseline[Any]]:
        """The session where the width starts, and the fitted baseline."""
        return max(0, len(history) - WARM_UP), self.of().fit(history)

    def log_returns(
        self,
        fit: tuple[int, FittedBaseline[Any]],
        history: History,
        origins: Origins,
        horizon: int,
        levels: Levels,
    ) -> Quantiles:
        """Quantiles with the widths, which follow every session from the start on."""
        first, fitted = fit
        if not len(origins):
            return np.empty((0, horizon, len(levels)))
        every = np.arange(min(first, int(origins.min())), int(origins.max()) + 1)
        asked = fitted.baseline.log_returns(fitted.parameters, history, every, horizon, (*levels, *LEVELS))
        moves, scored = asked[..., : len(levels)], asked[..., len(levels) :]
        with np.errstate(invalid="ignore", divide="ignore"):  # the band of a price that never moves has no width
            scores = band_scores(np.exp(returns_ahead(history, horizon)[every]), np.exp(scored))
        scores[every < first] = np.nan
        median = scored[..., [MEDIAN]]
        widened = median + online_widths(scores)[:, None, None] * (moves - median)
        quantiles: Quantiles = widened[origins - every[0]]
        return quantiles


class EwmaWithWidth(OnlineWidth):
    """EWMA with the online width."""

    name = "EWMA + width"
    of = Ewma


class GjrGarchWithWidth(OnlineWidth):
    """GJR-GARCH with the online width."""

    name = "GJR-GARCH + width"
    of = GjrGarch


class LogHarWithWidth(OnlineWidth):
    """Log-HAR with the online width."""

    name = "log-HAR + width"
    of = LogHar
