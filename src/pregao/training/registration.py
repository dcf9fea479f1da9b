"""Register a new model, compare it with what answers now, and decide whether to serve it."""

import logging
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from pregao.data.panel import Panel
from pregao.data.windows import Windows, day
from pregao.errors import CorruptModel, NoModel, NoSuchVersion, NotExported
from pregao.evaluation.comparison import compare
from pregao.evaluation.report import NAIVE, Evaluation, Quantiles, baseline_forecasts
from pregao.forecasting.compose import served_model
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.card import not_for_predict
from pregao.models.choices import TARGET, model_class
from pregao.models.export import check_parity
from pregao.models.forecaster import Forecaster
from pregao.models.onnx import OnnxModel
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from pregao.tracking.client import MODEL
from pregao.tracking.registry import Served
from pregao.tracking.runs import Run
from pregao.training.config import TrainConfig
from pregao.training.promotion import EWMA, Rival, Verdict, decide, outdated

logger = logging.getLogger(__name__)


def register(run: Run, config: TrainConfig, folder: Path, panel: Panel, evaluation: Evaluation) -> tuple[int, Verdict]:
    """Register the model of a run's folder, load it again, forecast with it, and decide whether to serve it.

    Returns:
        The version in the registry, and the verdict; the champion is not changed yet.
    """
    symbol = Symbol.parse(config.stock)
    answering = answering_model(symbol) if config.promote == "auto" else None
    version = registry.register(run, symbol, folder / MODEL)
    model = registry.load(symbol, version).model
    verdict = _unfit(model, config, panel, evaluation)
    if verdict is None and config.promote != "auto":
        verdict = Verdict(config.promote == "always", f"promote={config.promote}")
    if verdict is None:
        verdict = _judge(symbol, answering, model, config, panel, evaluation)
    if verdict.promoted:
        verdict = _not_exported(symbol, version, model, evaluation) or verdict
    state = "is promoted" if verdict.promoted else "is not promoted"
    logger.info("%s version %d %s: %s.", symbol, version, state, verdict.reason)
    return version, verdict


def answering_model(symbol: Symbol) -> Served | None:
    """The model that answers for the stock now; None without one, or where its files are damaged."""
    try:
        return served_model(symbol)
    except NoModel:
        return None
    except CorruptModel as error:
        logger.warning("The served model is not compared: %s", error)
        return None


def _unfit(model: Forecaster, config: TrainConfig, panel: Panel, evaluation: Evaluation) -> Verdict | None:
    """Why the registered model can never be served, even with promote=always; None if it can."""
    # Again, since this checks the registered copy; stock by stock, since a panel's histories need memory.
    since = model.card.validation_start
    last = [rolling_forecasts(model, table, since, stock).last for stock, table in panel.histories.items()]
    forecasts = pd.DataFrame([row for window in last for row in model.rows(window)])
    evaluated = evaluation.forecasts["model"]
    if not (np.isfinite(forecasts).all(axis=None) and (forecasts["close"] > 0).all() and np.isfinite(evaluated).all()):
        return Verdict(False, "its forecast is not finite")
    reason = not_for_predict(model.card.lookback, model.card.horizon) if config.for_predict else None
    if not model_class(config.model[TARGET]).served:
        reason = "its weights are not in the registry: this model serves only comparisons"
    return None if reason is None else Verdict(False, reason)


def _not_exported(symbol: Symbol, version: int, model: Forecaster, evaluation: Evaluation) -> Verdict | None:
    """Export the model to ONNX; returns why it cannot be served, None if both forecast the test windows equally."""
    windows = evaluation.windows
    try:
        exported = OnnxModel.load(registry.exported(symbol, version).folder)
        check_parity(model, exported, windows.inputs, windows.volatilities, windows.stocks)
    except NotExported as error:
        return Verdict(False, str(error).rstrip("."))
    return None


def _judge(
    symbol: Symbol,
    answering: Served | None,
    model: Forecaster,
    config: TrainConfig,
    panel: Panel,
    evaluation: Evaluation,
) -> Verdict:
    """The verdict of promote=auto."""
    old = None
    if answering is not None and not registry.is_shipped(answering):
        old = outdated(model.card, config.evaluation.split, answering.model.card, _name(symbol, answering))
    rivals = [*_versions(symbol, answering, panel, evaluation), *_baselines(panel, evaluation)]
    for rival in rivals:
        logger.info("%s, improvement on %s.", symbol, rival)
    scores = evaluation.scores["model"]
    return decide(scores["skill_mape"], scores["coverage_80"], rivals, old)


def _versions(symbol: Symbol, answering: Served | None, panel: Panel, evaluation: Evaluation) -> Iterator[Rival]:
    """The model that answers now, and the best version of the stock's so far."""
    best = registry.best(symbol)
    if answering is not None:
        # Before this rule, registries had no best version.
        is_best = answering.stock == symbol.ticker and best in (None, answering.version)
        yield _rival(answering, _name(symbol, answering), is_best, panel, evaluation)
        if is_best:
            return
    if best is None:
        return
    name = f"version {best} (the best so far)"
    try:
        yield _rival(registry.load(symbol, best), name, True, panel, evaluation)
    except (CorruptModel, NoSuchVersion) as error:
        logger.warning("The best version is not compared: %s", error)
        yield Rival(name, None, is_best=True)


def _name(symbol: Symbol, answering: Served) -> str:
    """The model that answers now, in a sentence."""
    own = "" if answering.stock == symbol.ticker else f"{answering.stock} "
    return f"{own}version {answering.version} (served now)"


def _rival(served: Served, name: str, is_best: bool, panel: Panel, evaluation: Evaluation) -> Rival:
    windows, card = evaluation.windows, served.model.card
    quantiles = quantiles_at(served.model, panel.histories, windows)
    if quantiles is None:
        return Rival(name, None, is_best)
    if card.validation_end >= str(day(windows.dates.min())):
        name = f"{name.removesuffix(')')}, trained on some of these windows)"
    return Rival(name, compare(windows, evaluation.forecasts["model"], quantiles), is_best)


def _baselines(panel: Panel, evaluation: Evaluation) -> Iterator[Rival]:
    """Last close and EWMA, which is fitted here if the evaluation is without it."""
    known = evaluation.forecasts
    if EWMA not in known:
        known = known | baseline_forecasts(evaluation.windows, panel.prices, panel.borders[1], [EWMA])
    for name in (NAIVE, EWMA):
        if name in known:
            yield Rival(name, compare(evaluation.windows, known["model"], known[name]))


def quantiles_at(model: Forecaster, prices: Mapping[str, pd.DataFrame], windows: Windows) -> Quantiles | None:
    """The forecasts of another model for these windows; None if its lookback or its horizon does not fit.

    `prices` are whole histories, because the model may have a longer lookback than the windows.
    """
    parts = []
    for stock, place in windows.by_stock():
        cutoffs = windows.cutoffs[place]
        if len(prices[stock]) < model.card.lookback:
            return None
        # The online width of a served forecast follows the outcomes since the validation part.
        since = min(day(windows.dates[place].min()), date.fromisoformat(model.card.validation_start))
        found = rolling_forecasts(model, prices[stock], since, stock).at(cutoffs)
        if found.windows.horizon != windows.horizon or len(found.windows) != len(cutoffs):
            return None
        parts.append(found.quantiles)
    return np.concatenate(parts)
