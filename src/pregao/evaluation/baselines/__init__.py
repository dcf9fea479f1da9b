"""Baselines: simple forecasters, fitted on one stock's history, with quantiles at any origin of a history.

A history is `[sessions]` prices in the stock's currency, oldest first, one per session; an origin is the index of the
last session that a forecast knows. A row of quantiles depends only on the sessions up to its origin and on the fit
part, not on the other origins. A baseline is one class; importing its module registers it in `BASELINES`.
"""

from pregao.evaluation.baselines.base import (
    BASELINES,
    Baseline,
    FittedBaseline,
    History,
    baselines_named,
    stock_forecasts,
)
from pregao.evaluation.baselines.empirical import Drift, Ewma, LastClose, MeanReturn, RollingVolatility
from pregao.evaluation.baselines.garch import GjrGarch, GjrGarchRefitted
from pregao.evaluation.baselines.gas import GasT
from pregao.evaluation.baselines.regression import LogHar, QuantileRegression
from pregao.evaluation.baselines.state_space import Arima, Ets

__all__ = [
    "BASELINES",
    "Arima",
    "Baseline",
    "Drift",
    "Ets",
    "Ewma",
    "FittedBaseline",
    "GasT",
    "GjrGarch",
    "GjrGarchRefitted",
    "History",
    "LastClose",
    "LogHar",
    "MeanReturn",
    "QuantileRegression",
    "RollingVolatility",
    "baselines_named",
    "stock_forecasts",
]
