"""The steps of a training, shared by the pipeline, backtests and searches."""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import Callback

from pregao.data.batch import as_batch
from pregao.data.datamodule import PricesDataModule
from pregao.data.panel import ALL_PARTS, Panel
from pregao.data.windows import BorderRule, day, joined
from pregao.errors import InvalidChoice, PregaoError
from pregao.evaluation.metrics import Forecasts, mape, pinball
from pregao.evaluation.report import REPORTED, Evaluation
from pregao.forecasting.evaluate import evaluate_model
from pregao.forecasting.historical import Rolling
from pregao.models.card import ModelCard
from pregao.models.choices import build_model
from pregao.models.trained import TrainedModel
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import SHARED, Symbol
from pregao.training.callbacks import Report
from pregao.training.config import FitConfig
from pregao.training.fit import Fitted, Training
from pregao.training.module import ForecastModule
from pregao.training.warm_start import WarmStart

logger = logging.getLogger(__name__)


def download(
    downloader: Downloader, stocks: Sequence[Symbol], dates: tuple[date, date | None], shortest: int, before: int = 0
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The prices by ticker, and by ticker the reason why a stock of a panel is left out.

    Args:
        downloader: reads the chosen source.
        stocks: one stock, or the stocks of a panel.
        dates: the first and the last day; None is the latest.
        shortest: minimum number of sessions of each stock of a panel.
        before: number of sessions before the first day that are returned too, for the measures of the first windows.

    Raises:
        PregaoError: no stock is left, or one file is given for several stocks.
    """
    path = downloader.path
    if len(stocks) > 1 and downloader.source == "csv" and path is not None and path.is_file():
        raise InvalidChoice(
            f"source.path={path} is one file, and {len(stocks)} stocks are asked for. Give a folder of <STOCK>.csv."
        )
    found: dict[str, pd.DataFrame] = {}
    left_out: dict[str, str] = {}
    refused: PregaoError | None = None
    for symbol in stocks:
        try:
            table = downloader.prices(symbol, *dates, before=before).table
        except PregaoError as error:
            refused, left_out[symbol.ticker] = error, str(error)
            continue
        sessions = int((table["date"] >= pd.Timestamp(dates[0])).sum())
        if len(stocks) > 1 and sessions < shortest:
            left_out[symbol.ticker] = f"{sessions} sessions; one window needs {shortest}"
        else:
            found[symbol.ticker] = table
    if not found:
        raise refused or InvalidChoice(
            f"stocks: no stock has the {shortest} sessions that one window needs. Widen start= and end=."
        )
    for stock, reason in left_out.items():
        logger.warning("%s is left out: %s", stock, reason)
    return found, left_out


def build_data(
    config: FitConfig,
    prices: Mapping[str, pd.DataFrame],
    split: BorderRule,
    start: WarmStart | None = None,
    needed: Sequence[str] = ALL_PARTS,
    since: date | None = None,
) -> PricesDataModule:
    """The windows of these prices in three parts; `since` is the first day of the windows.

    Raises:
        TooFewSessions: a needed part would be empty.
    """
    data = PricesDataModule(
        lambda: prices,
        lookback=config.data.lookback,
        horizon=config.data.horizon,
        inputs=config.data.inputs,
        split=split,
        batch_size=config.data.batch_size,
        seed=config.seed,
        shuffle=config.data.shuffle,
        typical=None if start is None else start.card.typical_volatility,
        market=None if start is None else start.model.market,
        needed=needed,
        since=since,
    )
    data.setup()
    return data


def prepare(
    config: FitConfig,
    panel: Panel,
    folder: Path,
    start: WarmStart | None = None,
    ckpt_path: Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Training:
    """Build the initial model and its Trainer; checkpoints are written to `folder`.

    Raises:
        BadCheckpoint: this training cannot resume from `ckpt_path`.
        InvalidChoice: the Trainer refuses a setting.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.network(len(panel.stocks)))
    if start is not None:
        model.adopt(start.model.network)
        model.refit(as_batch(panel.split.train, panel.stocks))
    module = ForecastModule(
        model,
        learning_rate=config.optimizer.learning_rate * (1 if start is None else start.learning_rate_factor),
        weight_decay=config.optimizer.weight_decay,
        schedule=config.optimizer.schedule,
        seed=config.seed,
        history=_history(config, panel, start),
    )
    return Training(module, config.trainer, folder, ckpt_path, callbacks, None if start is None else deepcopy(model))


def fit(
    config: FitConfig, stock: str, training: Training, data: PricesDataModule, report: Report | None = None
) -> tuple[TrainedModel, Fitted]:
    """Train on the training part; choose the epoch and calibrate on the validation part.

    Args:
        config: the settings given to `prepare`.
        stock: ticker on the model card.
        training: the result of `prepare`.
        data: the windows.
        report: called with the losses during training.
    """
    fitted = training.fit(data, report)
    model, panel = training.module.model.eval(), data.panel
    model.calibrate(as_batch(panel.split.validation, panel.stocks))
    return TrainedModel(model, _card(config, stock, panel), panel.market), fitted


def refit(model: TrainedModel, panel: Panel) -> None:
    """Estimate what has a closed form again, on the training and the validation part, once weights are chosen."""
    model.network.refit(as_batch(joined([panel.split.train, panel.split.validation]), panel.stocks))


def validate(model: TrainedModel, panel: Panel) -> dict[str, float]:
    """The validation metrics that compare runs: MAPE in percent, pinball loss of the log return × 1000."""
    part = panel.split.validation
    # Stock by stock: the activations of all windows of a panel together need hundreds of megabytes.
    found = [
        model.quantiles(part.inputs[place], part.volatilities[place], part.stocks[place])
        for _, place in part.by_stock()
    ]
    forecasts = Forecasts(part.targets, np.concatenate(found))
    return {"val_mape": mape(forecasts), "val_pinball": pinball(forecasts)}


def evaluate(
    symbol: Symbol, panel: Panel, rolling: Mapping[str, Rolling], baselines: Sequence[str] = REPORTED
) -> Evaluation:
    """Evaluate a model's forecasts and the baselines on the test part."""
    return evaluate_model(symbol, panel.split.test, rolling, panel.prices, panel.borders[1], baselines)


def _card(config: FitConfig, stock: str, panel: Panel) -> ModelCard:
    return ModelCard(
        stock=stock,
        stocks=panel.stocks,
        lookback=config.data.lookback,
        network=config.network(len(panel.stocks)),
        price=config.data.price,
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        train_end=str(day(panel.split.train.dates.max())),
        validation_start=str(day(panel.borders[0])),
        validation_end=str(day(panel.split.validation.dates.max())),
        data_end=str(panel.last),
        metrics={},
        typical_volatility=panel.typical,
        panel=[] if panel.market is None else list(panel.market.stocks),
    )


def _history(config: FitConfig, panel: Panel, start: WarmStart | None) -> str:
    data, last = config.data, day(panel.split.train.dates.max())
    validation, test = (day(border) for border in panel.borders)
    order = "" if data.shuffle else " in order"
    at = "" if start is None else f", initialised from {SHARED} of run {start.served.run_id}"
    model = " ".join(f"{name}={value}" for name, value in config.network(len(panel.stocks)).items())
    return (
        f"{' '.join(panel.stocks)} {data.price} {panel.first}..{last}, validation from {validation}, "
        f"test from {test}, {data.lookback} in, {data.horizon} out, batches of {data.batch_size}{order}{at}; {model}"
    )
