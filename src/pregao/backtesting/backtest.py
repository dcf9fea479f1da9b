"""Walk-forward backtest: at rolling origins, models refitted on past prices forecast the following closes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from pregao.backtesting import plots
from pregao.backtesting.config import BacktestConfig
from pregao.backtesting.folder import BacktestFolder
from pregao.backtesting.origins import Cutoffs, Period, Prices, RollingOrigins
from pregao.backtesting.scores import COLUMNS, NETWORKS, WalkForward
from pregao.config import flat
from pregao.data.parallel import map_stocks
from pregao.data.windows import Windows, borders_before, day
from pregao.errors import (
    InvalidChoice,
    PregaoError,
    StorageError,
    TooFewSessions,
    TrackingUnavailable,
    UnknownStock,
    refusal,
)
from pregao.evaluation.baselines import stock_forecasts
from pregao.forecasting.historical import forecast_history
from pregao.forecasting.widths import BASELINES
from pregao.models.trained import TrainedModel
from pregao.prices.calendar import last_finished_session
from pregao.prices.dates import parse_dates
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import runs
from pregao.tracking.code import code
from pregao.tracking.registry import Served
from pregao.training.steps import build_data, download, fit, prepare, refit
from pregao.training.warm_start import WarmStart

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with the number of finished parts, the number of all parts, and the name of the next part."""


@dataclass(frozen=True)
class BacktestResult:
    """The result of a backtest; `seconds` is its duration."""

    folder: Path
    walk: WalkForward
    seconds: float


class Backtest:
    """Forecasts from past days, by models that were fitted on earlier prices only.

    Args:
        config: all settings.
        folder: for its files; an interrupted backtest in this folder is resumed.
        progress: called before each part.
    """

    def __init__(self, config: BacktestConfig, folder: Path, progress: Progress = lambda done, of, text: None) -> None:
        self.config = config
        self.folder = folder
        self.progress = progress
        symbols = [Symbol.parse(stock) for stock in config.stocks or [config.stock]]
        self.symbols = list(dict.fromkeys(symbols))
        # Trained on one stock, the network is not shared: its row must not look like the shared model's.
        names = ["own" if name == "shared" and len(self.symbols) == 1 else name for name in config.models]
        self.models = list(dict.fromkeys(names))
        self._kept: tuple[int, TrainedModel] | None = None  # a period and its shared model
        self._refuse_unknown()
        self.first, end = parse_dates(config.first_cutoff, config.end, name="first_cutoff")
        # An unfinished session could be complete, with another close, when the backtest is resumed.
        finished = min(last_finished_session(symbol.calendar) for symbol in self.symbols)
        self.end = finished if end is None else min(end, finished)
        self.dates = parse_dates(config.start, str(self.end))
        self.downloader = Downloader(config.source.name, config.source.path, price=config.data.price)

    def run(self) -> BacktestResult:
        """Compute the parts that are missing in the folder, and score all parts.

        Raises:
            PregaoError: no stock is left, no model made a forecast, or the folder has another backtest.
            KeyboardInterrupt: ctrl-C; finished parts are kept.
        """
        started = perf_counter()
        files = BacktestFolder(self.folder)
        self.end = files.claim(self.config.model_dump(mode="json"), self.end)
        data = self.config.data
        prices, left_out = download(
            self.downloader, self.symbols, (self.dates[0], self.end), data.lookback + data.horizon
        )
        files.check_prices(prices)
        files.record_code(code())
        origins = self.origins(prices)
        parts = [(period, model) for period in origins.periods for model in self.models]
        with runs.start_run("backtest", self.folder.name) as run:
            run.params(flat(self.config.model_dump(mode="json")) | {"stocks": " ".join(prices), "end": self.end})
            for done, (period, model) in enumerate(parts):
                self.progress(done, len(parts), f"{model}, from {period.refit.date()}")
                if files.read(period.number, model) is None:
                    files.write(period.number, model, *self.part(origins, period, model))
            self.progress(len(parts), len(parts), "scores")
            absent = [f"{stock} is left out: {reason}" for stock, reason in left_out.items()]
            walk = self._collect(files, origins, absent)
            walk.forecasts.to_parquet(self.folder / "forecasts.parquet", index=False)
            walk.cross_validation().to_parquet(self.folder / "cross_validation.parquet", index=False)
            walk.scores.to_csv(self.folder / "scores.csv", index=False, float_format="%.6f")
            walk.periods.to_csv(self.folder / "periods.csv", index=False, float_format="%.6f")
            plots.backtest(walk, self.folder / "backtest.png")
            run.metrics(_overall(walk))
            run.artifacts(self.folder)
        return BacktestResult(self.folder, walk, perf_counter() - started)

    def origins(self, prices: Prices) -> RollingOrigins:
        """The rolling origins; raises InvalidChoice if there are none, or no history before the first."""
        data, first = self.config.data, pd.Timestamp(self.first)
        begin, end = (pick(table["date"].iloc[at] for table in prices.values()) for pick, at in ((min, 0), (max, -1)))
        if first <= begin:
            raise InvalidChoice(
                f"first_cutoff={self.first}: the prices begin on {day(begin)}, and models need prices before the "
                "first cutoff. Choose a later first_cutoff, or an earlier start."
            )
        origins = RollingOrigins(
            prices, data.lookback, data.horizon, first, self.config.refit_every, self.config.history
        )
        if not origins.periods:
            raise InvalidChoice(
                f"first_cutoff={self.first}: the prices end on {day(end)}, and no forecast from first_cutoff on has "
                f"{data.horizon} closes to be scored with. Choose an earlier first_cutoff, or a later end."
            )
        return origins

    def part(self, origins: RollingOrigins, period: Period, model: str) -> tuple[pd.DataFrame, list[str]]:
        """One model's forecasts in one period, and a sentence per failure."""
        history, (seen, cutoffs) = origins.history(period), origins.inputs(period)
        forecast = self._network if model in NETWORKS else self._baseline
        found, failures = forecast(model, history, seen, cutoffs, period)
        tables = [_long_table(origins.truths(period, stock), model, quantiles) for stock, quantiles in found.items()]
        return pd.concat(tables or [pd.DataFrame(columns=COLUMNS)], ignore_index=True), failures

    def _baseline(
        self, model: str, history: Prices, seen: Prices, cutoffs: Cutoffs, period: Period
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        baseline, horizon = {model: BASELINES[model]}, self.config.data.horizon
        past = {stock: history.get(stock, table.iloc[:0]) for stock, table in seen.items()}
        asked = [(baseline, stock, past[stock], table, cutoffs[stock], horizon) for stock, table in seen.items()]
        parts = map_stocks(stock_forecasts, asked, keep_workers=True)
        found = {stock: forecasts[model] for stock, (forecasts, _) in zip(seen, parts, strict=True) if forecasts}
        refused = {stock: errors[model] for stock, (_, errors) in zip(seen, parts, strict=True) if errors}
        return found, [_failure(model, stock, period, error) for stock, error in refused.items()]

    def _network(
        self, model: str, history: Prices, seen: Prices, cutoffs: Cutoffs, period: Period
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        if model == "shared":
            try:
                return self._forecasts(self._shared(history, period), seen, cutoffs), []
            except PregaoError as error:
                return {}, [_failure(model, "all stocks", period, error)]
        found: dict[str, np.ndarray] = {}
        failures = []
        for stock in seen:
            try:
                start = self._start(history, period) if model == "fine-tuned" else None
                own = {stock: history[stock]} if stock in history else {}
                found |= self._forecasts(self._fit(own, period, start), {stock: seen[stock]}, cutoffs)
            except PregaoError as error:
                failures.append(_failure(model, stock, period, error))
        return found, failures

    def _start(self, history: Prices, period: Period) -> WarmStart:
        """The shared model of a period, for the models that start from it."""
        model = self._shared(history, period)
        return WarmStart(Served(model, SHARED, 0, "backtest", self.folder), model, self.config.learning_rate_factor)

    def _shared(self, history: Prices, period: Period) -> TrainedModel:
        """The shared model of a period, trained once."""
        if self._kept is None or self._kept[0] != period.number:
            self._kept = period.number, self._fit(history, period)
        return self._kept[1]

    def _fit(self, history: Prices, period: Period, start: WarmStart | None = None) -> TrainedModel:
        """Train on the history before a period."""
        data = self.config.data
        if not history:
            size, reason = data.lookback + data.horizon, "windows for training and validation"
            raise TooFewSessions("the history", self.dates[0], period.refit.date(), 0, 2 * size, reason)
        split = partial(borders_before, test=period.refit.to_datetime64(), train=1 - self.config.validation)
        windows = build_data(self.config, history, split, start, needed=("train", "validation"))
        with TemporaryDirectory() as folder:
            training = prepare(self.config, windows.panel, Path(folder), start)
            model, _ = fit(self.config, SHARED, training, windows)
        refit(model, windows.panel)
        return model

    @staticmethod
    def _forecasts(model: TrainedModel, seen: Prices, cutoffs: Cutoffs) -> dict[str, np.ndarray]:
        """Quantiles [n, horizon, 7] at the cutoffs, by stock."""
        rolling = forecast_history(model, seen)
        return {stock: forecasts.at(cutoffs[stock]).quantiles for stock, forecasts in rolling.items()}

    def _refuse_unknown(self) -> None:
        unknown = [name for name in self.models if name not in (*NETWORKS, *BASELINES)]
        if unknown:
            allowed = ", ".join((*NETWORKS, *BASELINES))
            raise InvalidChoice(f"models: {', '.join(unknown)}: unknown. Allowed: {allowed}.")
        if "fine-tuned" in self.models and len(self.symbols) == 1:
            raise InvalidChoice("models: fine-tuned starts from a model of many stocks. Give stocks=[VALE3,PETR4].")
        if SHARED in [symbol.ticker for symbol in self.symbols]:
            raise UnknownStock(
                SHARED, "a backtest", SHARED, "It is the model of many stocks. Give stocks=[VALE3,PETR4]."
            )

    def _collect(self, files: BacktestFolder, origins: RollingOrigins, failures: list[str]) -> WalkForward:
        kept = [files.read(period.number, model) for model in self.models for period in origins.periods]
        found = [part for part in kept if part is not None]
        failures = failures + [failure for _, failed in found for failure in failed]
        tables = [table for table, _ in found if len(table)]
        if not tables:
            raise InvalidChoice(
                f"models: none of {', '.join(self.models)} made a forecast ({failures[0]}) Choose an earlier start, a "
                "later first_cutoff, or other models."
            )
        walk = WalkForward(pd.concat(tables, ignore_index=True), self.currency, tuple(failures))
        return replace(walk, failures=(*failures, *self._missing(walk)))

    def _missing(self, walk: WalkForward) -> list[str]:
        """A sentence per missing model or forecast; raises InvalidChoice if the score table would be empty."""
        absent = [f"{model} made no forecast and is not scored." for model in self.models if model not in walk.models]
        scored, made = len(walk.aligned[walk.models[0]].y), len(walk.forecasts[["stock", "cutoff"]].drop_duplicates())
        if not scored:
            raise InvalidChoice(
                f"models: {', '.join(walk.models)} have no forecast of the same stock and day, so that they "
                f"cannot be compared ({walk.failures[0]}) Leave one of them out."
            )
        incomplete = f"{made - scored} of {made} forecasts are not scored: some models did not make them."
        return absent + [incomplete] * (scored < made)

    @property
    def currency(self) -> str | None:
        """The currency of all stocks; None if they have several."""
        currencies = {symbol.currency for symbol in self.symbols}
        return currencies.pop() if len(currencies) == 1 else None


@contextmanager
def log_how_to_resume(folder: Path) -> Iterator[None]:
    """Log how to resume after ctrl-C, a full disk or an unreachable MLflow server."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt) or isinstance(refusal(error), StorageError | TrackingUnavailable)
        if stopped and BacktestFolder(folder).has_parts():
            logger.warning("Finished parts are kept. To resume, repeat the command with hydra.run.dir=%s", folder)
        raise


def _overall(walk: WalkForward) -> dict[str, float]:
    """The scores over all stocks and steps, by names such as `mape.last_close`."""
    scores = walk.scores
    rows = scores[(scores["stock"] == "all") & (scores["step"] == "all")].drop(columns=["stock", "step"])
    return {
        f"{name}.{str(model).replace(' + ', '_with_').replace(' ', '_')}": value  # MLflow refuses a plus
        for model, row in rows.set_index("model").to_dict("index").items()
        for name, value in row.items()
    }


def _long_table(windows: Windows, model: str, quantiles: np.ndarray) -> pd.DataFrame:
    n, horizon = windows.targets.shape
    flat = quantiles.reshape(n * horizon, -1)
    table: dict[str, Any] = {
        "stock": np.repeat(windows.stocks, horizon),
        "model": model,
        "cutoff": np.repeat(windows.cutoffs, horizon),
        "date": windows.dates.ravel(),
        "step": np.tile(np.arange(1, horizon + 1), n),
        "y": windows.targets.ravel(),
        "y_hat": flat[:, flat.shape[1] // 2],
    }
    return pd.DataFrame(table | dict(zip(COLUMNS[7:], flat.T, strict=True)))


def _failure(model: str, stock: str, period: Period, error: PregaoError) -> str:
    sentence = f"{model}, {stock}, refit {period.refit.date()}: {error}"
    logger.warning("%s", sentence)
    return sentence
