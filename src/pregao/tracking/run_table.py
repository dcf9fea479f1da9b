"""Every experiment and run that MLflow holds, fast: SQL on its tables, where they are those that this file knows.

MLflow's own search takes more than a second for a thousand runs. Its tables are no contract, so their version is looked
at first, and any other version is read through MLflow's client.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from pregao.errors import InvalidChoice
from pregao.files import or_null
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import registry as tracking

KNOWN_SCHEMAS = frozenset({"dc11669786a5"})
"""Versions of MLflow's tables, as alembic calls them: MLflow 3.17."""

COLUMNS = ("run_uuid", "experiment_id", "artifact_uri", "status", "start_time", "end_time")

_RUNS = """
SELECT {columns} FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id
WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
AND (:stock IS NULL OR experiments.name = :stock)
AND (:before IS NULL OR runs.start_time < :before OR (runs.start_time = :before AND runs.run_uuid > :after))
ORDER BY runs.start_time DESC, runs.run_uuid LIMIT :limit
"""

NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Page:
    """Which runs: of one stock, at most so many, after the last one of the page before."""

    stock: Symbol | None = None
    limit: int | None = None
    token: str | None = None

    @property
    def after(self) -> tuple[int | None, str | None]:
        """Start and run of the last one of the page before.

        Raises:
            InvalidChoice: the token is none that an answer held.
        """
        if self.token is None:
            return None, None
        start, _, run_id = self.token.partition("-")
        if not (start.isascii() and start.isdigit() and len(start) < 19 and run_id.isalnum() and len(run_id) == 32):
            raise InvalidChoice("page_token is none that an answer held. Take next_page_token of the page before.")
        return int(start), run_id


EVERYTHING = Page()


def statistics(page: Page) -> Iterator[str]:
    """The answer of GET /statistics, as pieces of JSON.

    Raises:
        TrackingUnavailable: MLflow does not answer.
        InvalidChoice: the page's token is none that an answer held.
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
        yield ", " * bool(number) + json.dumps(experiment)[:-1] + ', "runs": ['
        for place, run in enumerate(by_experiment[experiment["experiment_id"]]):
            yield ", " * bool(place) + json.dumps(run)
        yield "]}"
    token = None if last is None else f"{last['start_time'] or 0}-{last['run_id']}"
    yield f'], "next_page_token": {json.dumps(token)}}}'


def table(page: Page = EVERYTHING) -> pd.DataFrame:
    """One row a run, newest first: `stock run_id status started seconds`, its parameters, tags and metrics.

    `started` is UTC. A run without a parameter, tag or metric that another one has holds NaN there; parameters and tags
    are texts.

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
    """Experiments, and runs, newest first: one more than the page holds, if there are more."""
    uri = settings().tracking_uri
    page.after  # noqa: B018 - a bad token is refused before anything is read
    if not uri.startswith(("http:", "https:", "databricks", "file:")):
        try:
            with _engine(uri).connect() as connection:
                if _is_known(connection):
                    return _experiments(connection, page), _runs(connection, page)
        except SQLAlchemyError:  # MLflow's client makes the database, or says what is wrong with it
            pass
    return through_the_client(page)


@lru_cache(maxsize=4)
def _engine(uri: str) -> Engine:
    # No pool: a connection that is kept would go on reading a file that has been replaced.
    return create_engine(uri, poolclass=NullPool)


def _is_known(connection: Connection) -> bool:
    return {row[0] for row in connection.execute(text("SELECT version_num FROM alembic_version"))} <= KNOWN_SCHEMAS


def _experiments(connection: Connection, page: Page) -> list[dict[str, Any]]:
    query = """SELECT experiment_id, name, artifact_location, lifecycle_stage FROM experiments
    WHERE lifecycle_stage = 'active' AND (:stock IS NULL OR name = :stock) ORDER BY experiment_id"""
    rows = connection.execute(text(query), {"stock": page.stock and page.stock.ticker})
    return [_experiment(str(id), name, location, stage) for id, name, location, stage in rows]


def _experiment(id: str, name: str, location: str, stage: str) -> dict[str, Any]:
    return {"artifact_uri": location, "experiment_id": id, "lifecycle_stage": stage, "name": name}


def _runs(connection: Connection, page: Page) -> list[dict[str, Any]]:
    before, after = page.after
    limit = NO_LIMIT if page.limit is None else page.limit + 1
    given = {"stock": page.stock and page.stock.ticker, "before": before, "after": after, "limit": limit}
    rows = connection.execute(text(_RUNS.format(columns=", ".join(f"runs.{name}" for name in COLUMNS))), given)
    found = {row[0]: _run(*row) for row in rows}
    ids = _RUNS.format(columns="runs.run_uuid AS run_uuid")
    for kind, table, columns in (
        ("metrics", "latest_metrics", "key, value, is_nan"),
        ("params", "params", "key, value"),
        ("tags", "tags", "key, value"),
    ):
        # Our own names are put in; what a client sends is bound.
        query = f"SELECT run_uuid, {columns} FROM {table} WHERE run_uuid IN (SELECT run_uuid FROM ({ids}) AS page)"  # nosec B608
        for run_id, key, value, *nan in connection.execute(text(query), given):
            if run_id in found:  # a run may have begun between two of the queries
                found[run_id][kind][key] = None if any(nan) else value
    return list(found.values())


def _run(
    run_id: str, experiment_id: object, uri: str | None, status: str, start: int | None, end: int | None
) -> dict[str, Any]:
    return {
        "experiment_id": str(experiment_id),
        "artifact_uri": uri,
        "run_id": run_id,
        "status": status,
        "start_time": start,
        "end_time": end,
        "metrics": {},
        "params": {},
        "tags": {},
    }


def through_the_client(page: Page) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same through MLflow's client: slow, and right for every store and version."""
    wanted = [e for e in tracking.all_experiments() if page.stock is None or e.name == page.stock.ticker]
    wanted.sort(key=lambda experiment: (len(experiment.experiment_id), experiment.experiment_id))
    experiments = [_experiment(e.experiment_id, e.name, e.artifact_location, e.lifecycle_stage) for e in wanted]
    runs = [_of_client(run) for e in wanted for run in tracking.all_runs(e.experiment_id)]
    runs.sort(key=lambda run: (-(run["start_time"] or 0), run["run_id"]))
    before, after = page.after
    if before is not None:
        runs = [r for r in runs if (-(r["start_time"] or 0), r["run_id"]) > (-before, after)]
    return experiments, runs if page.limit is None else runs[: page.limit + 1]


def _of_client(run: Any) -> dict[str, Any]:  # noqa: ANN401 - MLflow has no types
    info = run.info
    row = _run(info.run_id, info.experiment_id, info.artifact_uri, info.status, info.start_time, info.end_time)
    return row | {"metrics": or_null(run.data.metrics), "params": dict(run.data.params), "tags": dict(run.data.tags)}
