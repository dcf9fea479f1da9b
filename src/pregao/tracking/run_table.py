"""Every experiment and run that MLflow holds, as the JSON of GET /statistics and as a table."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pregao.errors import InvalidChoice, sentence_for_clients
from pregao.prices.symbols import Symbol
from pregao.tracking import database, remote


@dataclass(frozen=True)
class Page:
    """Selects runs: of one stock, at most `limit`, after the last run of the previous page.

    `deleted` adds deleted experiments, whose runs MLflow has deleted too.
    """

    stock: Symbol | None = None
    limit: int | None = None
    token: str | None = None
    deleted: bool = False

    @property
    def after(self) -> tuple[int, str] | None:
        """Start (milliseconds) and id of the last run of the previous page.

        Raises:
            InvalidChoice: the token is not one of GET /statistics.
        """
        if self.token is None:
            return None
        start, _, run_id = self.token.partition("-")
        if not (start.isascii() and start.isdigit() and len(start) < 19 and run_id.isalnum() and len(run_id) == 32):
            raise InvalidChoice("page_token is not valid. Allowed is the next_page_token of the previous page.")
        return int(start), run_id


EVERYTHING = Page()


def statistics(page: Page) -> Iterator[str]:
    """The answer of GET /statistics, as pieces of JSON, without folders of the host.

    Raises:
        TrackingUnavailable: MLflow does not answer.
        InvalidChoice: the page's token is not valid.
    """
    experiments, runs = _read(page)
    more = page.limit is not None and len(runs) > page.limit
    shown = runs[: page.limit] if more else runs
    last = shown[-1] if more else None
    by_experiment = defaultdict(list)
    for run in shown:
        by_experiment[run.pop("experiment_id")].append(run)
    yield '{"experiments": ['
    for number, experiment in enumerate(experiments):
        yield ", " * bool(number) + json.dumps(_for_clients(experiment))[:-1] + ', "runs": ['
        for place, run in enumerate(by_experiment[experiment["experiment_id"]]):
            yield ", " * bool(place) + json.dumps(_for_clients(run))
        yield "]}"
    token = None if last is None else f"{last['start_time'] or 0}-{last['run_id']}"
    yield f'], "next_page_token": {json.dumps(token)}}}'


def table(page: Page = EVERYTHING) -> pd.DataFrame:
    """One row per run, newest first: `stock run_id status started seconds`, its parameters, tags and metrics.

    `started` is UTC; parameters and tags are texts. A parameter, tag or metric that a run lacks is NaN.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    experiments, runs = _read(page)
    names = {experiment["experiment_id"]: experiment["name"] for experiment in experiments}
    rows = [
        {name: run[name] for name in ("experiment_id", "run_id", "status", "start_time", "end_time")}
        | {name: value for kind in ("params", "tags", "metrics") for name, value in run[kind].items()}
        for run in runs
    ]
    columns = ["experiment_id", "run_id", "status", "start_time", "end_time"]
    found = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    started, ended = (pd.to_numeric(found[name]) for name in ("start_time", "end_time"))
    stocks = found["experiment_id"].map(names)
    found = found.drop(columns="stock", errors="ignore")  # a backtest has a parameter of this name
    found.insert(0, "stock", stocks)
    found["started"] = pd.to_datetime(started, unit="ms", utc=True)
    found["seconds"] = (ended - started) / 1000
    return found.drop(columns=["start_time", "end_time"])


def _read(page: Page) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the experiments and the runs, newest first; one run beyond the limit shows that a next page exists."""
    after, stock = page.after, None if page.stock is None else page.stock.ticker
    limit = None if page.limit is None else page.limit + 1
    with database.connect() as connection:
        if connection is not None:
            experiments = database.experiments(connection, stock, page.deleted)
            return experiments, database.runs(connection, stock, after, limit)
    experiments, runs = remote.read(stock, after, limit, page.deleted)
    experiments.sort(key=lambda experiment: int(experiment["experiment_id"]))
    return experiments, runs


def _for_clients(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts have no folder of the host; those in the home begin there: mlruns/artifacts/VALE3."""
    return {name: _text(value) for name, value in row.items()} | {
        kind: {name: _text(value) for name, value in row[kind].items()} for kind in ("params", "tags") if kind in row
    }


def _text(value: Any) -> Any:  # noqa: ANN401 - a value of JSON
    if not isinstance(value, str) or "/" not in value:
        return value
    return sentence_for_clients(value.removeprefix("file://"))
