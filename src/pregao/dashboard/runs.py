"""The runs of a stock that can be shown, and their evaluations."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from pregao.dashboard.language import day, number, say
from pregao.dashboard.state import cached, configuration, prices
from pregao.errors import NoModel
from pregao.evaluation.report import FILES, EvaluationTables
from pregao.forecasting.compose import served_model
from pregao.forecasting.evaluate import served_on_latest
from pregao.forecasting.market import panel_folder, with_stored_prices
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import runs
from pregao.tracking.registry import Served
from pregao.tracking.run_table import Page, table


@dataclass(frozen=True)
class RunOption:
    """A run; or, with `started` None, the served model on the latest prices.

    Attributes:
        experiment: a ticker, or SHARED.
        started: in local time; None for the served model.
        mape: of the evaluation, in percent; None for the served model.
    """

    run_id: str
    experiment: str
    started: datetime | None = None
    mape: float | None = None


def run_options(symbol: Symbol) -> list[RunOption]:
    """Finished runs of the stock and of the shared model, newest first; then the served model.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    runs = pd.concat([table(Page(symbol)), table(Page(Symbol.parse(SHARED)))], ignore_index=True)
    runs = runs.reindex(columns=[*runs.columns, *({"shipped", "final_mape"} - set(runs.columns))])
    evaluated = runs[(runs["status"] == "FINISHED") & runs["shipped"].isna() & runs["final_mape"].notna()]
    found = [_of_run(row) for row in evaluated.sort_values("started", ascending=False).to_dict("records")]
    try:
        served = _served(symbol)
    except NoModel:
        return found
    return [*found, RunOption(served.run_id, served.stock)]


def label(option: RunOption) -> str:
    """The text of an option in a list."""
    shared = f"{SHARED} · " if option.experiment == SHARED else ""
    if option.started is None:
        return f"{shared}{say('served_on_latest')}"
    when = f"{day(option.started)} {option.started:%H:%M}"
    return f"{shared}{when} · MAPE {number(option.mape, 3)} % · {option.run_id[:6]}"


def evaluation(symbol: Symbol, option: RunOption) -> EvaluationTables:
    """The evaluation of a run, restricted to this stock.

    Raises:
        MissingArtifact: the run has no evaluation files.
        PregaoError: the served model cannot be evaluated on the latest prices.
    """
    work = _on_latest if option.started is None else _of_artifacts
    return cached("evaluation", lambda: work(symbol, option), symbol.ticker, option.run_id, option.started is None)


def _of_run(row: dict[Any, Any]) -> RunOption:
    return RunOption(row["run_id"], row["stock"], row["started"].to_pydatetime().astimezone(), row["final_mape"])


def _served(symbol: Symbol) -> Served:
    return cached("served", lambda: served_model(symbol), symbol.ticker)


def _on_latest(symbol: Symbol, option: RunOption) -> EvaluationTables:
    served = _served(symbol)
    found, source = prices(symbol, served.model.card.price), configuration().source
    model = with_stored_prices(served.model, panel_folder(source.name, source.path))
    return served_on_latest(replace(served, model=model), found).tables


def _of_artifacts(symbol: Symbol, option: RunOption) -> EvaluationTables:
    with TemporaryDirectory() as folder:
        runs.fetch(option.run_id, FILES, Path(folder))
        return EvaluationTables.read(Path(folder)).of_stock(symbol.ticker)
