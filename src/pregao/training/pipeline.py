"""Pipeline: download → windows → fit → evaluate → register; used by train.py and POST /train."""

import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from time import perf_counter

import pandas as pd
from pytorch_lightning.callbacks import Callback

from pregao.data.datamodule import PricesDataModule
from pregao.data.volatility import SPAN
from pregao.errors import CorruptModel, NoModel, NotNeeded
from pregao.evaluation.drift import drift
from pregao.evaluation.report import REPORTED, Evaluation
from pregao.forecasting.historical import forecast_history
from pregao.forecasting.widths import baselines_named
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.tracking import registry, runs
from pregao.training.config import LEAK, TrainConfig
from pregao.training.limits import refuse_too_large
from pregao.training.promotion import Verdict
from pregao.training.registration import register
from pregao.training.run_files import complete_card, run_metrics, run_params, write_config, write_metrics, write_results
from pregao.training.steps import build_data, download, evaluate, fit, prepare, refit, validate
from pregao.training.warm_start import WarmStart, warm_start

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        first: the first day with a price in the range that was asked for.
        last: the last one.
        left_out: by stock, the reason why it is missing from the panel.
    """

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, float]
    stock: str
    version: int
    run_id: str
    verdict: Verdict
    first: date
    last: date
    left_out: dict[str, str]


class Pipeline:
    """One training run, of one stock or of the shared model of many stocks.

    Args:
        config: all settings.
        folder: an existing folder for the files of the run.
        callbacks: further Lightning callbacks, for progress or cancelling.
        tags: tags of the MLflow run.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        callbacks: Sequence[Callback] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        chosen = config.evaluation.baselines
        self.baselines = REPORTED if chosen is None else list(baselines_named(chosen, "evaluation.baselines"))
        self.folder = folder
        self.callbacks = callbacks
        self.tags = tags
        self.symbol = Symbol.parse(config.stock)
        self.stocks = [Symbol.parse(stock) for stock in config.stocks or [config.stock]]
        self.dates = config.dates
        self.downloader = Downloader(config.source.name, config.source.path, price=config.data.price)
        self.left_out: dict[str, str] = {}

    def run(self) -> Result:
        """Run all steps.

        Raises:
            PregaoError: the input was refused; the served model does not change.
            KeyboardInterrupt: ctrl-C; the MLflow run is KILLED, the served model does not change.
        """
        started = perf_counter()
        config, folder, symbol = self.config, self.folder, self.symbol
        prices = self.download()
        if config.if_drifted:
            self.refuse_unless_drifted(prices[symbol.ticker])
        data, start = self.data(prices)
        panel = data.panel
        refuse_too_large(config, len(panel.split.train))
        training = prepare(config, panel, folder, start, config.ckpt_path, self.callbacks)
        with ExitStack() as end, runs.start_run(symbol, folder.name, self.tags) as run:
            run.params(run_params(config, panel, start, self.left_out))
            model, fitted = fit(config, symbol.ticker, training, data, run.history)
            validation = validate(model, panel)
            refit(model, panel)
            rolling = forecast_history(model, panel.histories)
            evaluation = evaluate(symbol, panel, rolling, self.baselines)
            if config.evaluation.split == "published":
                evaluation = replace(evaluation, note=LEAK)
            model = complete_card(model, evaluation, panel)
            write_results(folder, model, evaluation, panel, rolling, many=config.stocks is not None)
            version, verdict = register(run, config, folder, panel, evaluation)
            metrics = run_metrics(evaluation, fitted, panel) | validation
            metrics["total_time"] = perf_counter() - started
            write_metrics(folder, metrics)
            write_config(folder, config, panel, start)
            run.metrics(metrics)
            run.artifacts(folder)
            if verdict.promoted:
                end.enter_context(_uninterrupted())
                registry.set_champion(symbol, version)
                if verdict.best:
                    registry.set_best(symbol, version)
            run.tags({"promoted": verdict.promoted, "promotion": verdict.reason})
        named = folder, evaluation, metrics, symbol.ticker, version, run.run_id, verdict
        return Result(*named, panel.first, panel.last, self.left_out)

    def download(self) -> dict[str, pd.DataFrame]:
        """The prices per stock; in a panel, refused stocks are put into `left_out`.

        Raises:
            PregaoError: all stocks were refused.
        """
        data = self.config.data
        shortest = data.lookback + data.horizon
        prices, self.left_out = download(self.downloader, self.stocks, self.dates, shortest, before=SPAN)
        return prices

    def data(self, prices: Mapping[str, pd.DataFrame]) -> tuple[PricesDataModule, WarmStart | None]:
        """The windows of these prices in three parts, and the shared model to start from, or None.

        Raises:
            TooFewSessions: a part would be empty.
            InvalidChoice: train.init=shared, but the shared model is missing or does not fit.
        """
        rule = self.config.evaluation.rule
        if self.config.evaluation.split == "published":
            logger.warning("%s.", LEAK)
        data = build_data(self.config, prices, rule, since=self.dates[0])
        start = warm_start(self.config, data.panel)
        if start is not None:
            data = build_data(self.config, prices, rule, start, since=self.dates[0])
        for stock in prices.keys() - set(data.panel.split.test.stocks):
            logger.warning("%s is not evaluated: its history has no window in the test part.", stock)
        return data, start

    def refuse_unless_drifted(self, prices: pd.DataFrame) -> None:
        """Refuse to train if the distribution of the stock's returns has not changed since its model was trained.

        Raises:
            NotNeeded: the returns have not drifted.
        """
        try:
            card = registry.champion(self.symbol).model.card
        except (NoModel, CorruptModel) as error:
            logger.info("Drift is not checked: %s", error)
            return
        found = drift(card.returns.get(self.symbol.ticker), prices["close"].to_numpy())
        if found is None:
            logger.info("Drift is not checked: the model card has no returns of the stock.")
        elif found.warning is None:
            raise NotNeeded(self.symbol, found.score, card.trained_at)
        else:
            logger.info("%s", found.warning)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore ctrl-C, SIGTERM and the time limit: the run of a model that is now served must not end as KILLED."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGALRM", signal.SIGTERM)}  # Windows has no SIGALRM
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
