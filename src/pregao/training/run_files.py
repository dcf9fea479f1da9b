"""Write the files of a run's folder; collect the parameters and metrics of its MLflow run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from pregao.data.panel import Panel, known_before
from pregao.evaluation import plots
from pregao.evaluation.drift import summary
from pregao.evaluation.report import Evaluation
from pregao.files import or_null
from pregao.forecasting.compose import with_dates
from pregao.forecasting.historical import Rolling
from pregao.models.choices import as_params
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import Symbol
from pregao.tracking.client import MODEL
from pregao.tracking.code import code
from pregao.training.config import TrainConfig
from pregao.training.fit import Fitted
from pregao.training.warm_start import WarmStart


def run_params(
    config: TrainConfig, panel: Panel, start: WarmStart | None = None, left_out: Iterable[str] = ()
) -> dict[str, object]:
    """The settings of the run, by MLflow parameter name."""
    return {
        "sequence_length": config.data.lookback,
        "future_steps": config.data.horizon,
        "batch_size": config.data.batch_size,
        "price": config.data.price,
        "inputs": config.data.inputs,
        "stocks": " ".join(panel.stocks),
        "left_out": " ".join(left_out),
        "init": "none" if start is None else str(start),
        "n_epochs": config.trainer.max_epochs,
        "patience": config.trainer.patience,
        "device": config.trainer.accelerator,
        "threads": config.trainer.threads or "auto",
        "promote": config.promote,
        "ckpt_path": config.ckpt_path,
        "train_size": config.evaluation.train,
        "validation_size": config.evaluation.validation,
        "split": config.evaluation.split,
        "seed": config.seed,
        "source": config.source.name,
        "first_date": panel.first,
        "last_date": panel.last,
        **as_params(config.model),
        **config.optimizer.model_dump(),
        "learning_rate_factor": config.train.learning_rate_factor,
    }


def run_metrics(evaluation: Evaluation, fitted: Fitted, panel: Panel) -> dict[str, float]:
    """The metrics of the fit and of the test part, by their names in MLflow and metrics.json."""
    chosen = fitted.chosen
    return {
        "train_loss": fitted.train_loss[chosen],
        "val_loss": fitted.val_loss[chosen],
        "best_val_loss": min(fitted.val_loss),
        "epochs": len(fitted.val_loss),
        "kept_start": float(fitted.kept_start),
        **evaluation.metrics,
        "n_train": len(panel.split.train),
        "n_val": len(panel.split.validation),
        "n_test": len(panel.split.test),
        "training_time": fitted.seconds,
    }


def complete_card(model: TrainedModel, evaluation: Evaluation, panel: Panel) -> TrainedModel:
    """The model with test metrics and summaries of its stocks' returns on its card."""
    returns = {stock: summary(known_before(table, panel.borders[0])) for stock, table in panel.prices.items()}
    return replace(model, card=replace(model.card, metrics=or_null(evaluation.metrics), returns=returns))


def write_results(
    folder: Path, model: TrainedModel, evaluation: Evaluation, panel: Panel, rolling: Mapping[str, Rolling], many: bool
) -> None:
    """Write the model, the evaluation's tables and plot, and forecast.csv, with a column `stock` if there are many."""
    model.save(folder / MODEL)
    evaluation.tables.save(folder)
    plots.report(evaluation, folder / "report.png")
    rows = []
    for stock, table in panel.prices.items():
        symbol, last = Symbol.parse(stock), table["date"].iloc[-1].date()
        found = with_dates(model.rows(rolling[stock].last), symbol, last)
        rows += [{"stock": stock, **row} if many else row for row in found]
    pd.DataFrame(rows).to_csv(folder / "forecast.csv", index=False, float_format="%.6f")


def write_metrics(folder: Path, metrics: dict[str, float]) -> None:
    """Write metrics.json."""
    text = json.dumps(or_null(metrics), indent=2, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def write_config(folder: Path, config: TrainConfig, panel: Panel, start: WarmStart | None) -> None:
    """Write config.json, which reproduces this run later, and code.json, the code that it needs.

    In config.json `end` and `train.init` have the values that were used.
    """
    train = config.train.model_copy(update={"init": "none" if start is None else "shared"})
    resolved = config.model_copy(update={"end": str(panel.last), "train": train})
    (folder / "config.json").write_text(resolved.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / "code.json").write_text(json.dumps(asdict(code()), indent=2) + "\n", encoding="utf-8")
