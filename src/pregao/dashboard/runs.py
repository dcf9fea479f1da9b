"""The runs of a stock that can be looked at, and their judged forecasts."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from pregao.dashboard.language import day, number, say
from pregao.dashboard.state import prices, remembered
from pregao.errors import NoModel
from pregao.evaluation.report import FILES, EvaluationTables
from pregao.forecasting.compose import served_model
from pregao.forecasting.evaluate import served_on_latest
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import runs
from pregao.tracking.registry import Served
from pregao.tracking.run_table import Page, table


@dataclass(frozen=True)
class Choice:
    """A run, or, without its figures, the served model on the newest prices.

    Attributes:
        run_id: MLflow's.
        experiment: a ticker, or SHARED.
        started: UTC; None for the served model.
        mape: of the judged windows, in percent.
    """

    run_id: str
    experiment: str
    started: datetime | None = None
    mape: float | None = None


def choices(symbol: Symbol) -> list[Choice]:
    """Finished runs of the stock and of the shared model, newest first; then the served model on the newest prices.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    runs = pd.concat([table(Page(symbol)), table(Page(Symbol.parse(SHARED)))], ignore_index=True)
    runs = runs.reindex(columns=[*runs.columns, *({"shipped", "final_mape"} - set(runs.columns))])
    judged_runs = runs[(runs["status"] == "FINISHED") & runs["shipped"].isna() & runs["final_mape"].notna()]
    found = [_of_run(row) for row in judged_runs.sort_values("started", ascending=False).to_dict("records")]
    try:
        served = _served(symbol)
    except NoModel:
        return found
    return [*found, Choice(served.run_id, served.stock)]


def name_of(choice: Choice) -> str:
    """For a person who chooses."""
    shared = f"{SHARED} · " if choice.experiment == SHARED else ""
    if choice.started is None:
        return f"{shared}{say('served_on_latest')}"
    when = f"{day(choice.started)} {choice.started:%H:%M}"
    return f"{shared}{when} · MAPE {number(choice.mape, 3)} % · {choice.run_id[:6]}"


def judged(symbol: Symbol, choice: Choice) -> EvaluationTables:
    """The stock's part of the judged forecasts.

    Raises:
        MissingArtifact: the run did not leave them.
        PregaoError: the served model cannot be judged on the newest prices.
    """
    work = _on_latest if choice.started is None else _of_artifacts
    return remembered("judged", lambda: work(symbol, choice), symbol.ticker, choice.run_id, choice.started is None)


def _of_run(row: dict[Any, Any]) -> Choice:
    return Choice(row["run_id"], row["stock"], row["started"].to_pydatetime().astimezone(), row["final_mape"])


def _served(symbol: Symbol) -> Served:
    return remembered("served", lambda: served_model(symbol), symbol.ticker)


def _on_latest(symbol: Symbol, choice: Choice) -> EvaluationTables:
    served = _served(symbol)
    return served_on_latest(served, prices(symbol, served.model.card.price)).tables


def _of_artifacts(symbol: Symbol, choice: Choice) -> EvaluationTables:
    with TemporaryDirectory() as folder:
        runs.fetch(choice.run_id, FILES, Path(folder))
        return EvaluationTables.read(Path(folder)).of_stock(symbol.ticker)
