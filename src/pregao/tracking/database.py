"""MLflow's tables, read directly and never written, for SQLite and PostgreSQL; only paths.py changes addresses.

MLflow's client takes seconds to import and more than a second for a thousand runs. Its tables are not a contract, so
`connect` checks their version first. For another version, an empty database or a server it yields None, and the
caller uses MLflow's client.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pregao.errors import TrackingUnavailable, refusal
from pregao.settings import settings, sqlite_file
from pregao.tracking.paths import here

logger = logging.getLogger(__name__)

KNOWN_SCHEMAS = frozenset({"dc11669786a5"})
"""Versions of MLflow's tables, as alembic calls them: MLflow 3.17."""

_SEEN: set[str] = set()
"""Addresses of the databases that this process has read."""

CHAMPION = "champion"
"""The registry's alias of the version that is served."""

BEST = "best"
"""The registry's alias of the version with the lowest pinball loss among those that were served."""

DELETED = "Deleted_Internal"
"""The stage of a version that MLflow has deleted; its row stays."""


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns))


_EXPERIMENTS = _table("experiments", "experiment_id", "name", "artifact_location", "lifecycle_stage")
_RUNS = _table(
    "runs", "run_uuid", "experiment_id", "artifact_uri", "status", "start_time", "end_time", "lifecycle_stage"
)
_OF_RUNS = {
    "metrics": _table("latest_metrics", "run_uuid", "key", "value", "is_nan"),
    "params": _table("params", "run_uuid", "key", "value"),
    "tags": _table("tags", "run_uuid", "key", "value"),
}
_VERSIONS = _table(
    "model_versions", "workspace", "name", "version", "run_id", "source", "storage_location", "current_stage"
)
_ALIASES = _table("registered_model_aliases", "workspace", "name", "version", "alias")


@dataclass(frozen=True)
class Version:
    """A registered model version; `folder` is None where its files are not on this machine's disk."""

    version: int
    run_id: str
    folder: Path | None


@contextmanager
def connect() -> Iterator[sa.Connection | None]:
    """Yield a connection to MLflow's database, or None where its tables are not known.

    Raises:
        StorageError: the disk fails.
        TrackingUnavailable: no database answers, the file is not a database, or this process has seen it before.
    """
    uri = settings().tracking_uri
    if not uri.startswith(("sqlite:", "postgresql")):
        yield None
        return
    try:
        engine = _engine(uri)
        if engine.url.get_backend_name() == "sqlite" and not os.path.exists(engine.url.database or ""):
            raise_if_gone()
            yield None  # a connection would create an empty file
            return
        _SEEN.add(uri)
        with engine.connect() as connection:
            yield connection if _is_known(connection) else None
    except (SQLAlchemyError, ImportError) as error:  # ImportError: the database's driver
        raise refusal(error) or TrackingUnavailable(uri, str(error).splitlines()[0][:200]) from error


def raise_if_gone() -> None:
    """Refuse work without a database file that this process has read: MLflow would create an empty one.

    Raises:
        TrackingUnavailable: the file has been removed.
    """
    uri = settings().tracking_uri
    file = sqlite_file(uri)
    if uri in _SEEN and file is not None and not file.exists():
        raise TrackingUnavailable(
            uri, "the file has been removed; restore it, or restart this program to create an empty one"
        )


@lru_cache(maxsize=4)
def _engine(uri: str) -> sa.Engine:
    # No pool: an open connection would still read a file that has been replaced.
    engine = sa.create_engine(uri, poolclass=sa.NullPool, execution_options={"postgresql_readonly": True})
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
    return engine


def _is_known(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table("alembic_version"):
        return False  # new: MLflow's client creates the tables
    table = _table("alembic_version", "version_num")
    found: set[str] = set(connection.scalars(sa.select(table.c.version_num)))
    if not found <= KNOWN_SCHEMAS:
        _warn_once(", ".join(sorted(found)))
    return found <= KNOWN_SCHEMAS


@cache
def _warn_once(found: str) -> None:
    logger.warning(
        "MLflow's tables have version %s, which is not known here: MLflow's client reads them, slower.", found
    )


def champions(connection: sa.Connection) -> dict[str, Version]:
    """Return the version with the alias `champion` of each registered model."""
    equal = [_VERSIONS.c[name] == _ALIASES.c[name] for name in ("workspace", "name", "version")]
    query = _versions().join(_ALIASES, sa.and_(*equal)).where(_ALIASES.c.alias == CHAMPION)
    return {row.name: _version(row) for row in connection.execute(query)}


def version(connection: sa.Connection, ticker: str, number: int) -> Version | None:
    """Return a version of a registered model."""
    row = connection.execute(_versions().where(_VERSIONS.c.name == ticker, _VERSIONS.c.version == number)).first()
    return None if row is None else _version(row)


def versions(connection: sa.Connection, ticker: str) -> list[int]:
    """Return the numbers of all versions of a registered model, in their order."""
    query = _versions().where(_VERSIONS.c.name == ticker)
    return sorted(row.version for row in connection.execute(query))


def _versions() -> sa.Select[Any]:
    location = sa.func.coalesce(_VERSIONS.c.storage_location, _VERSIONS.c.source).label("location")
    columns = (_VERSIONS.c.name, _VERSIONS.c.version, _VERSIONS.c.run_id, location)
    return sa.select(*columns).where(_VERSIONS.c.current_stage != DELETED)


def _version(row: sa.Row[Any]) -> Version:
    parts = urlsplit(here(row.location))
    folder = Path(url2pathname(parts.path)) if parts.scheme == "file" else None
    return Version(row.version, row.run_id, folder)


def experiments(connection: sa.Connection, stock: str | None, deleted: bool = False) -> list[dict[str, Any]]:
    """Return MLflow's active experiments, or a stock's, and the deleted ones, under the names of GET /statistics."""
    columns = _EXPERIMENTS.c
    query = sa.select(columns.artifact_location, columns.experiment_id, columns.lifecycle_stage, columns.name)
    query = query.order_by(columns.experiment_id)
    if not deleted:
        query = query.where(columns.lifecycle_stage == "active")
    if stock is not None:
        query = query.where(columns.name == stock)
    return [experiment_row(*row) for row in connection.execute(query)]


def experiment_row(uri: str, experiment_id: object, stage: str, name: str) -> dict[str, Any]:
    """Return an experiment under the names of GET /statistics."""
    return {"artifact_uri": uri, "experiment_id": str(experiment_id), "lifecycle_stage": stage, "name": name}


def runs(
    connection: sa.Connection, stock: str | None, after: tuple[int, str] | None, limit: int | None
) -> list[dict[str, Any]]:
    """Return active runs, newest first, under the names of GET /statistics.

    Args:
        connection: from `connect`.
        stock: the name of the experiment; None for all.
        after: start (milliseconds) and id of the run before the first of these; None for the newest runs.
        limit: the maximum number; None for all.
    """
    chosen = _chosen(stock, after, limit)
    found = {row.run_uuid: run_row(*row) for row in connection.execute(chosen)}
    for kind, table in _OF_RUNS.items():
        of_page = sa.select(table).where(table.c.run_uuid.in_(sa.select(chosen.subquery().c.run_uuid)))
        for run_id, key, value, *is_nan in connection.execute(of_page):
            if run_id in found:  # a run can start between two queries
                found[run_id][kind][key] = None if any(is_nan) else value
    return list(found.values())


def run_row(
    run_id: object, experiment_id: object, uri: object, status: object, start: int | None, end: int | None
) -> dict[str, Any]:
    """Return a run under the names of GET /statistics, without metrics, parameters and tags."""
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


def _chosen(stock: str | None, after: tuple[int, str] | None, limit: int | None) -> sa.Select[Any]:
    columns = _RUNS.c
    query = (
        sa.select(*list(columns)[:-1])
        .join(_EXPERIMENTS, columns.experiment_id == _EXPERIMENTS.c.experiment_id)
        .where(columns.lifecycle_stage == "active", _EXPERIMENTS.c.lifecycle_stage == "active")
        .order_by(columns.start_time.desc().nulls_last(), columns.run_uuid)
        .limit(limit)
    )
    if stock is not None:
        query = query.where(_EXPERIMENTS.c.name == stock)
    if after is not None:
        start, run_id = after
        same_start = sa.and_(columns.start_time == start, columns.run_uuid > run_id)
        query = query.where(sa.or_(columns.start_time < start, same_start))
    return query
