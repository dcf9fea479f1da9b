"""The promotion rule: a served model is never worse by accident."""

import logging
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pregao import tracking
from pregao.errors import NoModel, PregaoError
from pregao.evaluation.metrics import point_scores
from pregao.prices.symbols import Symbol
from pregao.quantiles import MEDIAN
from pregao.tracking import Served
from pregao.windows import Windows, sliding_windows

logger = logging.getLogger(__name__)

TOLERANCE = 1.02
"""A new model may be 2 % worse, relative, before it counts as clearly worse: less is noise between trainings."""


@dataclass(frozen=True)
class Verdict:
    """Whether a new version is served, and the reason as a sentence's end."""

    promoted: bool
    reason: str


def judge(
    mode: Literal["auto", "always", "never"], mape: float, former: float | None, naive: float, finite: bool
) -> Verdict:
    """Decide by the MAPE, in percent, of the new model, the former champion's and last close's on the same windows.

    `former` is None when there is no champion, or none that forecasts the same steps; `finite` says that a forecast of
    the new version, read back from the registry, holds positive finite prices only.
    """
    if not (finite and math.isfinite(mape)):
        return Verdict(False, "its forecast is not finite")
    if mode != "auto":
        return Verdict(mode == "always", f"promote={mode}")
    if former is None:
        return Verdict(True, "there is no former champion to compare with")
    compared = (
        f"MAPE {mape:.3f} % against the former champion's {former:.3f} % and last close's {naive:.3f} % "
        "(the former champion may have trained on some of these windows)"
    )
    clearly_worse = mape > TOLERANCE * former and mape > TOLERANCE * naive
    return Verdict(not clearly_worse, f"clearly worse: {compared}" if clearly_worse else compared)


def champion_mape(symbol: Symbol, closes: pd.DataFrame, judged: Windows) -> float | None:
    """The served model's MAPE, in percent, on the judged windows; None where none is served that forecasts their steps.

    `closes` is the whole `date, close` table: the champion's lookback may be another than the windows'.
    """
    former = _champion(symbol)
    if former is None:
        return None
    card = former.model.card
    own = sliding_windows(closes, card.lookback, card.network["horizon"])
    own = own.where(np.isin(own.cutoffs, judged.cutoffs))
    if own.horizon != judged.horizon or len(own) != len(judged):
        logger.warning("The former champion has another lookback or horizon and is not compared with.")
        return None
    return point_scores(own.targets, former.model.quantiles(own.inputs)[..., MEDIAN])["mape"]


def _champion(symbol: Symbol) -> Served | None:
    try:
        return tracking.champion(symbol)
    except NoModel:
        return None
    except PregaoError as error:
        logger.warning("The former champion is not compared with: %s", error)
        return None
