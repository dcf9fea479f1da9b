"""The promotion rule: a clearly worse model never replaces the champion."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pregao.data.panel import Panel
from pregao.data.windows import Windows, day
from pregao.errors import CorruptModel, NoModel
from pregao.evaluation.metrics import Forecasts, mape
from pregao.evaluation.report import NAIVE, Evaluation
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.choices import TARGET, model_class
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from pregao.tracking.client import MODEL
from pregao.tracking.runs import Run
from pregao.training.config import TrainConfig

logger = logging.getLogger(__name__)

TOLERANCE = 1.02
"""A MAPE ratio above this is clearly worse; smaller differences are noise between trainings."""

LOOKBACK, HORIZON = 20, 10
"""Window sizes of POST /predict: clients send 20 closes and get 10 prices."""


@dataclass(frozen=True)
class Verdict:
    """Whether a new version is served, and the reason as the end of a sentence."""

    promoted: bool
    reason: str


def not_for_predict(lookback: int, horizon: int) -> str | None:
    """Why POST /predict cannot use a model of these sizes, as the end of a sentence; None if it can."""
    if (lookback, horizon) == (LOOKBACK, HORIZON):
        return None
    return (
        f"/predict answers with {HORIZON} prices after {LOOKBACK} closes, and this model forecasts {horizon} after "
        f"{lookback} (data.horizon, data.lookback)"
    )


def register(run: Run, config: TrainConfig, folder: Path, panel: Panel, evaluation: Evaluation) -> tuple[int, Verdict]:
    """Register the model of a run's folder, load it again, forecast with it, and decide whether to serve it.

    Returns:
        The version in the registry, and the verdict; the champion is not changed yet.
    """
    symbol = Symbol.parse(config.stock)
    champion = None if config.promote != "auto" else champion_mape(symbol, panel.histories, evaluation.windows)
    version = registry.register(run, symbol, folder / MODEL)
    read_back = registry.load(symbol, version).model
    # Again, since this checks the registered copy; stock by stock, since a panel's histories need memory.
    since = read_back.card.validation_start
    last = [rolling_forecasts(read_back, table, since, stock).last for stock, table in panel.histories.items()]
    forecasts = pd.DataFrame([row for window in last for row in read_back.rows(window)])
    finite = bool(np.isfinite(forecasts).all(axis=None) and (forecasts["close"] > 0).all())
    new, naive = evaluation.scores["model"]["mape"], evaluation.scores[NAIVE]["mape"]
    unfit = not_for_predict(read_back.card.lookback, read_back.card.horizon) if config.for_predict else None
    if not model_class(config.model[TARGET]).served:
        unfit = "its weights are not in the registry: this model serves only comparisons"
    verdict = decide(config.promote, new, champion, naive, finite)
    return version, verdict if unfit is None else Verdict(False, unfit)


def decide(
    mode: Literal["auto", "always", "never"], mape: float, champion: float | None, naive: float, finite: bool
) -> Verdict:
    """Decide by the MAPE, in percent, of the new model, the champion and last close on the same windows.

    `champion` is None without a champion, NaN if it cannot be compared. `finite` is whether a forecast of the new
    version, loaded from the registry, has positive finite prices only.
    """
    if not (finite and math.isfinite(mape)):
        return Verdict(False, "its forecast is not finite")
    if mode != "auto":
        return Verdict(mode == "always", f"promote={mode}")
    if champion is None:
        return Verdict(True, "the stock had no champion")
    if math.isnan(champion):
        worse, others = mape > TOLERANCE * naive, f"last close {naive:.3f} %; the previous champion cannot be compared"
    else:
        worse = mape > TOLERANCE * max(champion, naive)
        others = (
            f"previous champion {champion:.3f} %, last close {naive:.3f} % "
            "(the previous champion may have been trained on some of these windows)"
        )
    return Verdict(not worse, f"{'clearly worse: ' * worse}MAPE {mape:.3f} %, {others}")


def champion_mape(symbol: Symbol, prices: Mapping[str, pd.DataFrame], windows: Windows) -> float | None:
    """The champion's MAPE, in percent, on these windows; None without a champion, NaN if it cannot be compared.

    `prices` are whole histories, because the champion may have a longer lookback than the windows.
    """
    try:
        champion = registry.champion(symbol).model
    except NoModel:
        return None
    except CorruptModel as error:
        logger.warning("The champion is not compared: %s", error)
        return math.nan
    parts = []
    for stock, place in windows.by_stock():
        cutoffs = windows.cutoffs[place]
        if len(prices[stock]) < champion.card.lookback:
            logger.warning("The champion is not compared: it needs a longer history.")
            return math.nan
        found = rolling_forecasts(champion, prices[stock], day(windows.dates[place].min()), stock).at(cutoffs)
        if found.windows.horizon != windows.horizon or len(found.windows) != len(cutoffs):
            logger.warning("The champion is not compared: it has another lookback or horizon.")
            return math.nan
        parts.append(found.quantiles)
    return mape(Forecasts(windows.targets, np.concatenate(parts)))
