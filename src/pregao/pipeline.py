"""Pipeline: download → windows → fit → evaluate → register. train.py and POST /train are this same call."""

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import Callback

from pregao import tracking
from pregao.config import TrainConfig
from pregao.datamodule import PricesDataModule
from pregao.evaluation import plots
from pregao.evaluation.intervals import symmetric_offsets
from pregao.evaluation.report import NAIVE, Evaluation, baseline_forecasts
from pregao.forecaster import Forecaster
from pregao.forecasting import dated_forecast
from pregao.network import Network, long_run_volatility
from pregao.prices.dates import parse_dates
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.promotion import Verdict, champion_mape, judge
from pregao.quantiles import LEVELS, MEDIAN
from pregao.tracking import Run
from pregao.trained_model import ModelCard, TrainedModel, or_null
from pregao.training import Fitted, Training
from pregao.windows import (
    REFERENCE_END,
    BorderRule,
    Split,
    Windows,
    day,
    fraction_borders,
    reference_borders,
    split_windows,
)

RULES = {"date": fraction_borders, "reference": reference_borders}


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, float]
    stock: str
    version: int
    run_id: str
    verdict: Verdict


class Pipeline:
    """One training run of one stock.

    Args:
        config: what decides the run.
        folder: where its files go; it exists.
        callbacks: further Lightning callbacks, for progress or cancelling.
    """

    def __init__(self, config: TrainConfig, folder: Path, callbacks: Sequence[Callback] = ()) -> None:
        self.config = config
        self.folder = folder
        self.callbacks = callbacks
        self.symbol = Symbol.parse(config.stock)
        # The published comparison ends on a day; what came after it would be judged with it.
        end = config.end or (REFERENCE_END if config.evaluation.split == "reference" else None)
        self.dates = parse_dates(config.start, end)
        source = config.source
        self.downloader = Downloader(source.name, source.path, price=config.data.price)

    def run(self) -> Result:
        """The whole way.

        Raises:
            PregaoError: the input was refused; the served model is untouched.
            KeyboardInterrupt: ctrl-C; the MLflow run is KILLED, the served model is untouched.
        """
        started = perf_counter()
        closes = self.downloader.closes(self.symbol, *self.dates)
        split = self.split(closes)
        training = self.prepare(split, closes)
        with ExitStack() as end, tracking.start_run(self.symbol, self.folder.name) as run:
            run.params(self._params(closes))
            model, fitted = self.fit(training, split, closes)
            run.history({"history_train_loss": fitted.train_loss, "history_val_loss": fitted.val_loss})
            evaluation = self.evaluate(model, split)
            model = self._with_metrics(model, evaluation)
            self._write(model, evaluation, closes, run)
            version, verdict = self.register(model, closes, evaluation, run)
            metrics = self._metrics(evaluation, fitted, split) | {"total_time": perf_counter() - started}
            self._finish(run, metrics, closes)
            if verdict.promoted:
                end.enter_context(_uninterrupted())
                tracking.set_champion(self.symbol, version)
            run.tags({"promoted": verdict.promoted, "promotion": verdict.reason})
        return Result(self.folder, evaluation, metrics, self.symbol.ticker, version, run.run_id, verdict)

    @cached_property
    def rule(self) -> BorderRule:
        """Where the parts begin."""
        choices = self.config.evaluation
        return partial(RULES[choices.split], train=choices.train, validation=choices.validation)

    def split(self, closes: pd.DataFrame) -> Split:
        """The windows of a `date, close` table in three parts; raises TooFewSessions."""
        data = self.config.data
        return split_windows(self.symbol, closes, data.lookback, data.horizon, self.rule)

    def prepare(self, split: Split, closes: pd.DataFrame) -> Training:
        """The network with its long-run volatility, and a Trainer; raises BadCheckpoint and InvalidChoice."""
        config = self.config
        forecaster = Forecaster(
            config.model.network(config.data.horizon),
            loss=config.model.loss,
            learning_rate=config.optimizer.learning_rate,
            weight_decay=config.optimizer.weight_decay,
            seed=config.seed,
            history=self._history(split, closes),
        )
        seen = closes.loc[closes["date"] <= split.train.dates[-1, -1], "close"]
        volatility = long_run_volatility(torch.tensor(seen.to_list(), dtype=torch.float64))
        forecaster.network.fan.long_run_volatility.fill_(volatility)
        return Training(forecaster, config.trainer, self.folder, config.ckpt_path, self.callbacks)

    def fit(self, training: Training, split: Split, closes: pd.DataFrame) -> tuple[TrainedModel, Fitted]:
        """Train on the first part, choose the epoch and calibrate the bands on the second."""
        fitted = training.fit(PricesDataModule(split, self.config.data.batch_size, self.config.seed))
        network = training.forecaster.network.eval()
        _calibrate(network, split.validation)
        return TrainedModel(network, self._card(split, closes)), fitted

    def evaluate(self, model: TrainedModel, split: Split) -> Evaluation:
        """Judge the model and its baselines on the third part."""
        forecasts = {"model": model.quantiles(split.test.inputs), **baseline_forecasts(split)}
        return Evaluation(self.symbol.ticker, self.symbol.currency, split.test, forecasts)

    def register(
        self, model: TrainedModel, closes: pd.DataFrame, evaluation: Evaluation, run: Run
    ) -> tuple[int, Verdict]:
        """Register, read back, forecast with what was read, and judge whether it is to be served."""
        former = None if self.config.promote != "auto" else champion_mape(self.symbol, closes, evaluation.windows)
        version = run.register(self.symbol, self.folder / "model")
        read_back = tracking.load(self.symbol, version).model.forecast(closes["close"].tolist()[-model.card.lookback :])
        finite = bool(np.isfinite(read_back.to_numpy(np.float64)).all() and (read_back["close"] > 0).all())
        mape, naive = evaluation.scores["model"]["mape"], evaluation.scores[NAIVE]["mape"]
        return version, judge(self.config.promote, mape, former, naive, finite)

    def _write(self, model: TrainedModel, evaluation: Evaluation, closes: pd.DataFrame, run: Run) -> None:
        model.save(self.folder / "model")
        evaluation.save(self.folder)
        plots.report(evaluation, self.folder / "report.png")
        forecast = dated_forecast(model, self.symbol, closes)
        forecast.to_csv(self.folder / "forecast.csv", index=False, float_format="%.6f")

    def _finish(self, run: Run, metrics: dict[str, float], closes: pd.DataFrame) -> None:
        text = json.dumps(_nulled(metrics), indent=2, allow_nan=False)
        (self.folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
        # With the last date in place of `null`: the same run, whenever it is made again.
        resolved = self.config.model_copy(update={"end": str(day(closes["date"].iloc[-1]))})
        (self.folder / "config.json").write_text(resolved.model_dump_json(indent=2) + "\n", encoding="utf-8")
        run.metrics(metrics)
        run.artifacts(self.folder)

    def _card(self, split: Split, closes: pd.DataFrame) -> ModelCard:
        return ModelCard(
            stock=self.symbol.ticker,
            lookback=self.config.data.lookback,
            network=self.config.model.network(self.config.data.horizon),
            price=self.config.data.price,
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            train_end=str(day(split.train.dates[-1, -1])),
            data_end=str(day(closes["date"].iloc[-1])),
            metrics={},
        )

    def _history(self, split: Split, closes: pd.DataFrame) -> str:
        data, first, last = self.config.data, day(closes["date"].iloc[0]), day(split.train.dates[-1, -1])
        return (
            f"{self.symbol} {data.price} {first}..{last}, {data.lookback} in, {data.horizon} out, "
            f"batches of {data.batch_size}"
        )

    def _with_metrics(self, model: TrainedModel, evaluation: Evaluation) -> TrainedModel:
        return replace(model, card=replace(model.card, metrics=_nulled(evaluation.metrics)))

    def _metrics(self, evaluation: Evaluation, fitted: Fitted, split: Split) -> dict[str, float]:
        chosen = fitted.chosen
        return {
            "train_loss": fitted.train_loss[chosen],
            "val_loss": fitted.val_loss[chosen],
            "best_val_loss": min(fitted.val_loss),
            "epochs": len(fitted.val_loss),
            **evaluation.metrics,
            "n_train": len(split.train),
            "n_val": len(split.validation),
            "n_test": len(split.test),
            "training_time": fitted.seconds,
        }

    def _params(self, closes: pd.DataFrame) -> dict[str, object]:
        """What decided the run, under the names that MLflow promises, then our own."""
        config = self.config
        return {
            "sequence_length": config.data.lookback,
            "future_steps": config.data.horizon,
            "batch_size": config.data.batch_size,
            "price": config.data.price,
            "n_epochs": config.trainer.max_epochs,
            "patience": config.trainer.patience,
            "device": config.trainer.accelerator,
            "threads": config.trainer.threads,
            "promote": config.promote,
            "ckpt_path": config.ckpt_path,
            "train_size": config.evaluation.train,
            "validation_size": config.evaluation.validation,
            "split": config.evaluation.split,
            "seed": config.seed,
            "source": config.source.name,
            "first_date": day(closes["date"].iloc[0]),
            "last_date": day(closes["date"].iloc[-1]),
            **config.model.model_dump(exclude_none=True),
            **config.optimizer.model_dump(),
        }


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C comes too late for a model that is being served: its run must not be called KILLED."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _nulled(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: or_null(value) for name, value in metrics.items()}


def _calibrate(network: Network, windows: Windows) -> None:
    """Set the fan's offsets from the residuals of the validation part, in units of the fan's own scale."""
    closes, targets = torch.from_numpy(windows.inputs.copy()), torch.from_numpy(windows.targets.copy())
    with torch.inference_mode():
        residuals = network.fan.residuals(network(closes)[..., MEDIAN], closes, targets).double()
        network.fan.offsets.copy_(torch.from_numpy(symmetric_offsets(residuals.numpy(), LEVELS)))
