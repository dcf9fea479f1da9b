"""The promotion rule: a served model is never worse by accident."""

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
from pregao.forecasting.historical import forecast_history, rolling_forecasts
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from pregao.tracking.client import MODEL
from pregao.tracking.runs import Run
from pregao.training.config import TrainConfig

logger = logging.getLogger(__name__)

TOLERANCE = 1.02
"""A new model may be 2 % worse, relative, before it counts as clearly worse: less is noise between trainings."""


LOOKBACK, HORIZON = 20, 10
"""Of the models that POST /predict answers with: its clients give 20 closes and read 10 prices."""


@dataclass(frozen=True)
class Verdict:
    """Whether a new version is served, and the reason as a sentence's end."""

    promoted: bool
    reason: str


def not_for_predict(lookback: int, horizon: int) -> str | None:
    """Why POST /predict does not answer with a model of these sizes, as a sentence's end; None where it does."""
    if (lookback, horizon) == (LOOKBACK, HORIZON):
        return None
    return (
        f"/predict answers with {HORIZON} prices after {LOOKBACK} closes, and this model forecasts {horizon} after "
        f"{lookback} (data.horizon, data.lookback)"
    )


def register(run: Run, config: TrainConfig, folder: Path, panel: Panel, evaluation: Evaluation) -> tuple[int, Verdict]:
    """Register the model of a run's folder, read it back, forecast with it, and decide whether it is to be served.

    Returns:
        The version in the registry, and the verdict; nothing is served yet.
    """
    symbol = Symbol.parse(config.stock)
    former = None if config.promote != "auto" else champion_mape(symbol, panel.prices, evaluation.windows)
    version = registry.register(run, symbol, folder / MODEL)
    read_back = registry.load(symbol, version).model
    rolling = forecast_history(read_back, panel.prices)  # its own: what the registry gives back is checked
    forecasts = pd.DataFrame([row for history in rolling.values() for row in read_back.rows(history.last)])
    finite = bool(np.isfinite(forecasts).all(axis=None) and (forecasts["close"] > 0).all())
    own, naive = evaluation.scores["model"]["mape"], evaluation.scores[NAIVE]["mape"]
    unfit = not_for_predict(read_back.card.lookback, read_back.card.horizon) if config.for_predict else None
    verdict = judge(config.promote, own, former, naive, finite)
    return version, verdict if unfit is None else Verdict(False, unfit)


def judge(
    mode: Literal["auto", "always", "never"], mape: float, former: float | None, naive: float, finite: bool
) -> Verdict:
    """Decide by the MAPE, in percent, of the new model, the former champion's and last close's on the same windows.

    `former` is None when there is no champion, and NaN when there is one that cannot be compared; `finite` says that a
    forecast of the new version, read back from the registry, holds positive finite prices only.
    """
    if not (finite and math.isfinite(mape)):
        return Verdict(False, "its forecast is not finite")
    if mode != "auto":
        return Verdict(mode == "always", f"promote={mode}")
    if former is None:
        return Verdict(True, "there is no former champion to compare with")
    if math.isnan(former):
        worse, to = mape > TOLERANCE * naive, f"last close's {naive:.3f} %; the former champion cannot be compared"
    else:
        worse = mape > TOLERANCE * max(former, naive)
        to = (
            f"the former champion's {former:.3f} % and last close's {naive:.3f} % "
            "(the former champion may have trained on some of these windows)"
        )
    return Verdict(not worse, f"{'clearly worse: ' * worse}MAPE {mape:.3f} % against {to}")


def champion_mape(symbol: Symbol, prices: Mapping[str, pd.DataFrame], judged: Windows) -> float | None:
    """The served model's MAPE, in percent, on the judged windows; None without one, NaN where it cannot be compared.

    `prices` are the whole histories: the champion's lookback may be another than the windows'.
    """
    try:
        former = registry.champion(symbol).model
    except NoModel:
        return None
    except CorruptModel as error:
        logger.warning("The former champion is not compared with: %s", error)
        return math.nan
    parts = []
    for stock, place in judged.by_stock():
        cutoffs = judged.cutoffs[place]
        if len(prices[stock]) < former.card.lookback:
            logger.warning("The former champion needs a longer history and is not compared with.")
            return math.nan
        own = rolling_forecasts(former, prices[stock], day(judged.dates[place].min()), stock).at(cutoffs)
        if own.windows.horizon != judged.horizon or len(own.windows) != len(cutoffs):
            logger.warning("The former champion has another lookback or horizon and is not compared with.")
            return math.nan
        parts.append(own.quantiles)
    return mape(Forecasts(judged.targets, np.concatenate(parts)))
