"""Pipeline: download → windows → fit → evaluate → register. train.py and POST /train are this same call."""

import json
import logging
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import Callback

from pregao.data.batch import as_batch
from pregao.data.datamodule import PricesDataModule
from pregao.data.panel import Panel, known_before
from pregao.data.windows import REFERENCE_END, BorderRule, day, fraction_borders, reference_borders
from pregao.errors import CorruptModel, InvalidChoice, NoModel, NotNeeded, PregaoError
from pregao.evaluation import plots
from pregao.evaluation.drift import drift, summary
from pregao.evaluation.metrics import Forecasts, mape, pinball
from pregao.evaluation.report import NAIVE, Evaluation
from pregao.files import or_null
from pregao.forecasting.compose import dated_forecast
from pregao.forecasting.evaluate import evaluate_model
from pregao.models.choices import as_params, build_model, same_model, with_data
from pregao.models.trained import ModelCard, TrainedModel
from pregao.prices.dates import parse_dates
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import registry, runs
from pregao.tracking.registry import Served
from pregao.tracking.runs import Run
from pregao.training.callbacks import Report
from pregao.training.config import TrainConfig
from pregao.training.fit import Fitted, Training
from pregao.training.module import ForecastModule
from pregao.training.promotion import Verdict, champion_mape, judge, not_for_predict

logger = logging.getLogger(__name__)

RULES = {"date": fraction_borders, "reference": reference_borders}


@dataclass(frozen=True)
class Result:
    """What a run left behind; `left_out` says why a stock of a panel is missing."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, float]
    stock: str
    version: int
    run_id: str
    verdict: Verdict
    left_out: dict[str, str]


class Pipeline:
    """One training run: of one stock, or of the model that many share.

    Args:
        config: what decides the run.
        folder: where its files go; it exists.
        callbacks: further Lightning callbacks, for progress or cancelling.
        tags: of its MLflow run.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        callbacks: Sequence[Callback] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.callbacks = callbacks
        self.tags = tags
        self.symbol = Symbol.parse(config.stock)
        self.stocks = [Symbol.parse(stock) for stock in config.stocks] if config.stocks else [self.symbol]
        # The published comparison ends on a day; what came after it would be judged with it.
        end = config.end or (REFERENCE_END if config.evaluation.split == "reference" else None)
        self.dates = parse_dates(config.start, end)
        source = config.source
        self.downloader = Downloader(source.name, source.path, price=config.data.price)
        self.left_out: dict[str, str] = {}

    def run(self) -> Result:
        """The whole way.

        Raises:
            PregaoError: the input was refused; the served model is untouched.
            KeyboardInterrupt: ctrl-C; the MLflow run is KILLED, the served model is untouched.
        """
        started = perf_counter()
        prices = self.download()
        if self.config.if_drifted:
            self.refuse_unless_drifted(prices[self.symbol.ticker])
        beginning = self.beginning(prices)
        data = self.data(prices, beginning)
        panel = data.panel
        training = self.prepare(panel, beginning)
        with ExitStack() as end, runs.start_run(self.symbol, self.folder.name, self.tags) as run:
            run.params(self.params(panel, beginning))
            model, fitted = self.fit(training, data, run.history)
            evaluation = self.evaluate(model, panel)
            model = self._with_metrics(model, evaluation)
            self._write(model, evaluation, panel)
            version, verdict = self.register(model, panel, evaluation, run)
            metrics = self._metrics(evaluation, fitted, panel) | self.validate(model, panel)
            metrics["total_time"] = perf_counter() - started
            self._finish(run, metrics, panel, beginning)
            if verdict.promoted:
                end.enter_context(_uninterrupted())
                registry.set_champion(self.symbol, version)
            run.tags({"promoted": verdict.promoted, "promotion": verdict.reason})
        return Result(
            self.folder, evaluation, metrics, self.symbol.ticker, version, run.run_id, verdict, dict(self.left_out)
        )

    def download(self) -> dict[str, pd.DataFrame]:
        """The prices of each stock; of many, those that are refused are left out, and named in `left_out`.

        Raises:
            PregaoError: no stock is left.
        """
        found, refused = {}, None
        for symbol in self.stocks:
            try:
                table = self.downloader.prices(symbol, *self.dates).table
            except PregaoError as error:
                refused = error
                self.left_out[symbol.ticker] = str(error)
                continue
            if len(self.stocks) > 1 and len(table) < self._shortest:
                self.left_out[symbol.ticker] = f"{len(table)} sessions, and {self._shortest} make one window"
                continue
            found[symbol.ticker] = table
        if not found:
            raise refused or InvalidChoice(
                f"stocks: none of them has the {self._shortest} sessions of one window. Widen start= and end=."
            )
        for stock, reason in self.left_out.items():
            logger.warning("%s is left out: %s", stock, reason)
        return found

    def refuse_unless_drifted(self, prices: pd.DataFrame) -> None:
        """Nothing is trained while the stock behaves as it did when its model was trained.

        Raises:
            NotNeeded: it does.
        """
        try:
            card = registry.champion(self.symbol).model.card
        except (NoModel, CorruptModel) as error:
            logger.info("Trained whether it has drifted or not: %s", error)
            return
        found = drift(card.returns.get(self.symbol.ticker), prices["close"].to_numpy())
        if found is None:
            logger.info("Trained whether it has drifted or not: the model's card tells nothing of its returns.")
        elif found.warning is None:
            raise NotNeeded(self.symbol, found.score, card.trained_at)
        else:
            logger.info("%s", found.warning)

    @cached_property
    def rule(self) -> BorderRule:
        """Where the parts begin."""
        choices = self.config.evaluation
        return partial(RULES[choices.split], train=choices.train, validation=choices.validation)

    def beginning(self, prices: Mapping[str, pd.DataFrame]) -> Served | None:
        """The shared model that this training begins at, if it may.

        Raises:
            InvalidChoice: train.init=shared, and there is none, or none that fits.
            TooFewSessions: these prices have no split.
        """
        init = self.config.train.init
        if init == "none" or self.symbol.ticker == SHARED:
            return None
        shared: Served | None = None
        judged = day(self.data(prices).panel.borders[1])  # refused here, nothing has been registered
        try:
            shared = registry.champion(Symbol.parse(SHARED))
            reason = self._unfit(shared.model.card, prices, judged)
        except NoModel:
            reason = "there is none; python train.py experiment=ibovespa makes one"
        except CorruptModel as error:
            reason = str(error)
        if reason is None:
            return shared
        if init == "shared":
            raise InvalidChoice(
                f"train.init=shared: the shared model cannot be begun at ({reason}). Or train.init=none."
            )
        logger.info("Begun afresh, not at the shared model: %s.", reason)
        return None

    def data(self, prices: Mapping[str, pd.DataFrame], beginning: Served | None = None) -> PricesDataModule:
        """The windows of these prices in three parts.

        Raises:
            TooFewSessions: one of them would be empty.
        """
        data = self.config.data
        module = PricesDataModule(
            lambda: prices,
            lookback=data.lookback,
            horizon=data.horizon,
            inputs=data.inputs,
            split=self.rule,
            batch_size=data.batch_size,
            seed=self.config.seed,
            typical=None if beginning is None else beginning.model.card.typical_volatility,
        )
        module.setup()
        for stock in prices.keys() - set(module.panel.split.test.stocks):
            logger.warning("%s is not judged: its history begins or ends outside the parts of the split.", stock)
        return module

    def prepare(self, panel: Panel, beginning: Served | None = None) -> Training:
        """The model as it is before its first step, and a Trainer; raises BadCheckpoint and InvalidChoice."""
        config = self.config
        torch.manual_seed(config.seed)
        model = build_model(self.network(panel.stocks))
        if beginning is not None:
            model.load_state_dict(beginning.model.network.state_dict())
        module = ForecastModule(
            model,
            learning_rate=config.optimizer.learning_rate * (config.train.learning_rate_factor if beginning else 1),
            weight_decay=config.optimizer.weight_decay,
            schedule=config.optimizer.schedule,
            seed=config.seed,
            history=self._history(panel, beginning),
        )
        return Training(module, config.trainer, self.folder, config.ckpt_path, self.callbacks)

    def fit(
        self, training: Training, data: PricesDataModule, report: Report | None = None
    ) -> tuple[TrainedModel, Fitted]:
        """Train on the first part, choose the epoch and calibrate on the second."""
        fitted = training.fit(data, report)
        model, panel = training.module.model.eval(), data.panel
        model.calibrate(*as_batch(panel.split.validation, panel.stocks))
        return TrainedModel(model, self._card(panel)), fitted

    def validate(self, model: TrainedModel, panel: Panel) -> dict[str, float]:
        """Figures of the second part, by which runs are compared: in percent, and the log return's pinball × 1000."""
        seen = panel.split.validation
        forecasts = Forecasts(seen.targets, model.quantiles(seen.inputs, seen.volatilities, seen.stocks))
        return {"val_mape": mape(forecasts), "val_pinball": pinball(forecasts)}

    def evaluate(self, model: TrainedModel, panel: Panel) -> Evaluation:
        """Judge the model, with the online width that it had at each origin, and its baselines on the third part."""
        since, until = day(panel.borders[0]), panel.borders[1]
        return evaluate_model(model, self.symbol, panel.split.test, panel.prices, since, until)

    def register(self, model: TrainedModel, panel: Panel, evaluation: Evaluation, run: Run) -> tuple[int, Verdict]:
        """Register, read back, forecast with what was read, and judge whether it is to be served."""
        former = None if self.config.promote != "auto" else champion_mape(self.symbol, panel.prices, evaluation.windows)
        version = registry.register(run, self.symbol, self.folder / "model")
        read_back = registry.load(self.symbol, version).model
        forecasts = pd.concat([dated_forecast(read_back, stock, table) for stock, table in panel.prices.items()])
        numbers = forecasts.select_dtypes("number").to_numpy(np.float64)
        finite = bool(np.isfinite(numbers).all() and (forecasts["close"] > 0).all())
        own, naive = evaluation.scores["model"]["mape"], evaluation.scores[NAIVE]["mape"]
        unfit = not_for_predict(read_back.card.lookback, read_back.card.horizon) if self.config.for_predict else None
        verdict = judge(self.config.promote, own, former, naive, finite)
        return version, verdict if unfit is None else Verdict(False, unfit)

    def network(self, stocks: Collection[str]) -> dict[str, object]:
        """All arguments of the model that is trained on these stocks."""
        data = self.config.data
        return with_data(
            self.config.model, horizon=data.horizon, inputs=data.inputs, lookback=data.lookback, stocks=len(stocks)
        )

    @property
    def _shortest(self) -> int:
        return self.config.data.lookback + self.config.data.horizon

    def _unfit(self, card: ModelCard, stocks: Collection[str], first: date) -> str | None:
        """Why a training cannot begin at this model, or None."""
        if not same_model(card.network, self.network(stocks)) or card.lookback != self.config.data.lookback:
            return "it is another network: model.*, data.lookback, data.horizon or data.inputs differ"
        if card.validation_end >= str(first):
            return f"it has seen closes until {card.validation_end}, and what judges begins on {first}"
        return None

    def _write(self, model: TrainedModel, evaluation: Evaluation, panel: Panel) -> None:
        model.save(self.folder / "model")
        evaluation.tables.save(self.folder)
        plots.report(evaluation, self.folder / "report.png")
        tables = [dated_forecast(model, stock, table) for stock, table in panel.prices.items()]
        if self.symbol.ticker == SHARED:
            for stock, table in zip(panel.prices, tables, strict=True):
                table.insert(0, "stock", stock)
        forecast = pd.concat(tables, ignore_index=True)
        forecast.to_csv(self.folder / "forecast.csv", index=False, float_format="%.6f")

    def _finish(self, run: Run, metrics: dict[str, float], panel: Panel, beginning: Served | None) -> None:
        text = json.dumps(or_null(metrics), indent=2, allow_nan=False)
        (self.folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
        # With the last date in place of `null`, and what `auto` came to: the same run, whenever it is made again.
        begun = self.config.train.model_copy(update={"init": "none" if beginning is None else "shared"})
        resolved = self.config.model_copy(update={"end": str(self._last(panel)), "train": begun})
        (self.folder / "config.json").write_text(resolved.model_dump_json(indent=2) + "\n", encoding="utf-8")
        run.metrics(metrics)
        run.artifacts(self.folder)

    def _card(self, panel: Panel) -> ModelCard:
        return ModelCard(
            stock=self.symbol.ticker,
            stocks=panel.stocks,
            lookback=self.config.data.lookback,
            network=self.network(panel.stocks),
            price=self.config.data.price,
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            train_end=str(day(panel.split.train.dates.max())),
            validation_start=str(day(panel.borders[0])),
            validation_end=str(day(panel.split.validation.dates.max())),
            data_end=str(self._last(panel)),
            metrics={},
            typical_volatility=panel.typical,
            returns={stock: summary(known_before(table, panel.borders[0])) for stock, table in panel.prices.items()},
        )

    def _history(self, panel: Panel, beginning: Served | None) -> str:
        data, last = self.config.data, day(panel.split.train.dates.max())
        first = min(day(table["date"].iloc[0]) for table in panel.prices.values())
        at = "" if beginning is None else f", initialised from {SHARED} of run {beginning.run_id}"
        model = " ".join(f"{name}={value}" for name, value in self.network(panel.stocks).items())
        return (
            f"{' '.join(panel.stocks)} {data.price} {first}..{last}, {data.lookback} in, {data.horizon} out, "
            f"batches of {data.batch_size}{at}; {model}"
        )

    def _last(self, panel: Panel) -> date:
        return max(day(table["date"].iloc[-1]) for table in panel.prices.values())

    def _with_metrics(self, model: TrainedModel, evaluation: Evaluation) -> TrainedModel:
        return replace(model, card=replace(model.card, metrics=or_null(evaluation.metrics)))

    def _metrics(self, evaluation: Evaluation, fitted: Fitted, panel: Panel) -> dict[str, float]:
        chosen = fitted.chosen
        return {
            "train_loss": fitted.train_loss[chosen],
            "val_loss": fitted.val_loss[chosen],
            "best_val_loss": min(fitted.val_loss),
            "epochs": len(fitted.val_loss),
            **evaluation.metrics,
            "n_train": len(panel.split.train),
            "n_val": len(panel.split.validation),
            "n_test": len(panel.split.test),
            "training_time": fitted.seconds,
        }

    def params(self, panel: Panel, beginning: Served | None) -> dict[str, object]:
        """What decided the run, under the names that MLflow promises, then our own."""
        config = self.config
        return {
            "sequence_length": config.data.lookback,
            "future_steps": config.data.horizon,
            "batch_size": config.data.batch_size,
            "price": config.data.price,
            "inputs": config.data.inputs,
            "stocks": " ".join(panel.stocks),
            "left_out": " ".join(self.left_out),
            "init": "none" if beginning is None else f"{SHARED} version {beginning.version} run {beginning.run_id}",
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
            "first_date": min(day(table["date"].iloc[0]) for table in panel.prices.values()),
            "last_date": self._last(panel),
            **as_params(config.model),
            **config.optimizer.model_dump(),
            "learning_rate_factor": config.train.learning_rate_factor,
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
