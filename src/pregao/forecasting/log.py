"""A database of past forecasts; each is written once, and scored when its closes are known.

The key of a forecast is its stock, its model and version, and the day of its last known close; of two forecasts with
the same key the first one is kept. The outcome is the return from that close: dividends change all prices of an
adjusted history, but not its returns.

The log does not set the width of the served bands: it holds only the days of requests, from several versions.
historical.py computes the width from the served model's forecasts at every origin.
"""

import logging
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from pregao.errors import ForecastsUnavailable, first_line
from pregao.files import ALEMBIC, locked, set_aside
from pregao.prices.table import PriceBasis
from pregao.settings import sqlite_file

SCHEMA = "0002"
"""The newest version of the tables, as the migrations call it."""

SECONDS_TO_CONNECT = 2
SECONDS_FOR_A_LOCK = 5
SECONDS_FOR_A_STATEMENT = 15
"""PostgreSQL ends a longer query; shorter than the deadline of a request."""

MOST_ROWS_AT_ONCE = 1000

MIGRATIONS = Path(__file__).with_name("migrations")
ADVISORY_LOCK = 0x50524547
"""PostgreSQL's advisory lock under which one process at a time changes the tables."""

DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")

logger = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)

FORECASTS = sa.table(
    "forecasts",
    *(sa.column(name, sa.String) for name in ("stock", "model")),
    sa.column("version", sa.Integer),
    sa.column("as_of", sa.Date),
    sa.column("step", sa.Integer),
    *(sa.column(name, sa.String) for name in ("run_id", "made_at", "price")),
    sa.column("last_close", sa.Double),
    sa.column("date", sa.Date),
    *(sa.column(name, sa.Double) for name in ("close", "lower_80", "upper_80", "lower_90", "upper_90", "outcome")),
    sa.column("settled", sa.Boolean),
)

Key = tuple[str, str, int, date]


@dataclass(frozen=True)
class Record:
    """A forecast that was returned to a client.

    Attributes:
        stock: the ticker.
        model: the model's stock: the ticker, or SHARED.
        version: of that model.
        run_id: of MLflow.
        as_of: the day of its last known close.
        price: the basis of its prices.
        last_close: the close of that day, on that basis.
        rows: `date step close lower_80 upper_80 lower_90 upper_90`, one per step.
    """

    stock: str
    model: str
    version: int
    run_id: str
    as_of: date
    price: PriceBasis
    last_close: float
    rows: Sequence[dict[str, Any]]

    @property
    def key(self) -> Key:
        """Stock, model, version and day, which are unique in the log."""
        return self.stock, self.model, self.version, self.as_of

    def table_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the database table."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        about = {name: getattr(self, name) for name in ("stock", "model", "version", "run_id", "as_of", "price")}
        for row in self.rows:
            yield {**about, "made_at": now, "last_close": self.last_close, **row, "outcome": None, "settled": False}


class ForecastLog:
    """One database of forecasts.

    Args:
        uri: sqlite:///FILE or postgresql://USER@HOST/NAME.

    Attributes:
        preparations: how often the tables were checked or created; when it grows, written forecasts may be lost.

    Raises:
        ForecastsUnavailable: from every method, where the database does not answer or is not a forecast log.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.file = sqlite_file(uri)
        self.preparations = 0
        self._prepared: object = None

    def add(self, records: Sequence[Record]) -> None:
        """Write new forecasts, each of them whole; they are on the disk when this returns."""
        self._add([row for record in records for row in record.table_rows()])

    def due(self, today: date) -> list[tuple[str, PriceBasis]]:
        """Stocks and price bases with unscored forecasts for today or earlier."""
        wanted = (
            sa.select(FORECASTS.c.stock, FORECASTS.c.price)
            .where(~FORECASTS.c.settled, FORECASTS.c.date <= today)
            .distinct()
            .order_by(FORECASTS.c.stock)
        )
        with self._reading() as connection:
            return [(row.stock, row.price) for row in connection.execute(wanted)]

    def settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> int:
        """Score the stock's forecasts with a `date close` table on their price basis; returns the number of steps.

        A session that the table lacks, though it has later ones, gets no outcome. Forecasts from before the table's
        first day stay unscored until a longer table comes.
        """
        closes = dict(zip(prices["date"].dt.date, prices["close"].tolist(), strict=True))
        first, last = min(closes), max(closes)
        unscored = (FORECASTS.c.stock == stock) & (FORECASTS.c.price == price) & ~FORECASTS.c.settled
        pairs = sa.select(FORECASTS.c.as_of, FORECASTS.c.date).distinct()
        pairs = pairs.where(unscored, FORECASTS.c.date <= last, FORECASTS.c.as_of >= first)
        settled = (
            sa.update(FORECASTS)
            .where(unscored, FORECASTS.c.as_of == sa.bindparam("origin"), FORECASTS.c.date == sa.bindparam("day"))
            .values(outcome=sa.bindparam("ratio"), settled=True)
        )
        with self._writing() as connection:
            found = [
                {"origin": origin, "day": day, "ratio": _ratio(closes.get(day), closes.get(origin))}
                for origin, day in connection.execute(pairs).all()
            ]
            if found:
                connection.execute(settled, found)
        return len(found)

    def last_settled(self) -> tuple[date, int] | None:
        """The last day with a scored step, and its number of them: a value that changes when forecasts are scored."""
        c = FORECASTS.c
        wanted = sa.select(c.date, sa.func.count()).where(c.settled).group_by(c.date).order_by(c.date.desc()).limit(1)
        with self._reading() as connection:
            found = connection.execute(wanted).one_or_none()
        return None if found is None else (found[0], found[1])

    def outcomes(self, stock: str | None = None, newest: bool = False) -> list[dict[str, Any]]:
        """Sums of the scored steps, one row per stock, model, version and step, for `accuracy`.

        Errors are in prices of the day of the forecast: the actual close is `last_close` × the return since then.

        Args:
            stock: only of this one.
            newest: only of each model's newest version with scored steps, which is found without reading the others.
        """
        c = FORECASTS.c
        actual = c.last_close * c.outcome
        error, naive = c.close - actual, c.last_close - actual
        groups = (c.stock, c.model, c.version, c.step)

        def inside(percent: int) -> sa.ColumnElement[Any]:
            band = actual.between(c[f"lower_{percent}"], c[f"upper_{percent}"])
            return sa.func.sum(sa.case((band, 1), else_=0)).label(f"inside_{percent}")

        query = (
            sa.select(
                *groups,
                sa.func.count().label("n"),
                sa.func.min(c.as_of).label("first"),
                sa.func.max(c.as_of).label("last"),
                sa.func.sum(error * error).label("squared"),
                sa.func.sum(naive * naive).label("naive_squared"),
                sa.func.sum(sa.func.abs(error) / actual).label("relative"),
                sa.func.sum(sa.func.abs(naive) / actual).label("naive_relative"),
                inside(80),
                inside(90),
            )
            .where(c.outcome.is_not(None), *([] if stock is None else [c.stock == stock]))
            .group_by(*groups)
            .order_by(*groups)
        )
        if newest:
            last = sa.select(c.stock, c.model, sa.func.max(c.version).label("version")).where(c.outcome.is_not(None))
            found = last.group_by(c.stock, c.model).subquery()
            query = query.join(found, sa.and_(*(c[name] == found.c[name] for name in ("stock", "model", "version"))))
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def exists(self) -> bool:
        """Whether the file exists; True for a server, without a query."""
        return self.file is None or self.file.exists()

    def check(self) -> None:
        """Read from the tables; creates missing ones, and renames a damaged file."""
        with self._reading() as connection:
            connection.execute(sa.select(FORECASTS.c.step).limit(1))

    def move_to(self, other: "ForecastLog") -> None:
        """Copy every forecast of this file to another log, and rename the file to `forecasts.moved-…`."""
        assert self.file is not None
        with self._reading() as connection:
            for rows in connection.execute(sa.select(FORECASTS)).mappings().partitions(MOST_ROWS_AT_ONCE):
                other._add([dict(row) for row in rows])
        moved = self.file.with_name(f"{self.file.stem}.moved-{datetime.now():%Y%m%dT%H%M%S}{self.file.suffix}")
        with suppress(FileNotFoundError):  # another process has just moved it
            os.replace(self.file, moved)
            logger.warning("The forecasts of %s were copied to the log; the file is kept as %s.", self.file, moved)

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        insert = sqlite.insert if self.file is not None else postgresql.insert
        with self._writing() as connection:
            for first in range(0, len(rows), MOST_ROWS_AT_ONCE):
                batch = rows[first : first + MOST_ROWS_AT_ONCE]
                connection.execute(insert(FORECASTS).on_conflict_do_nothing(), list(batch))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated_errors():
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._translated_errors():
            self._prepare()
            with self._engine.execution_options(writes=True).begin() as connection:
                yield connection

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:  # ImportError: the database's driver
            self._prepared = None
            cause = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(cause, sqlite3.DatabaseError) and _error_name(cause).startswith(DAMAGED):
                self._rename_damaged(cause)
            raise ForecastsUnavailable(self.uri, first_line(cause or error)) from error

    @cached_property
    def _engine(self) -> sa.Engine:
        # One connection per call: an open one could write to a deleted file or to a server that is gone.
        if self.file is not None:
            engine = sa.create_engine(self.uri, poolclass=sa.NullPool, connect_args={"timeout": SECONDS_FOR_A_LOCK})
            sa.event.listen(engine, "connect", _disable_driver_transactions)
            sa.event.listen(engine, "begin", _begin)
            return engine
        try:
            url = sa.make_url(self.uri)
        except ArgumentError:
            raise ForecastsUnavailable(self.uri, "it is not the address of a database") from None
        if url.get_backend_name() != "postgresql":
            raise ForecastsUnavailable(self.uri, "allowed are sqlite:///FILE and postgresql://USER@HOST/NAME")
        options = f"-c lock_timeout={SECONDS_FOR_A_LOCK}s -c statement_timeout={SECONDS_FOR_A_STATEMENT}s"
        limits = {"connect_timeout": SECONDS_TO_CONNECT, "options": options}
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool, connect_args=limits)

    def _prepare(self) -> None:
        """Bring the tables up to date, once per file."""
        if self._prepared is not None and self._prepared == self._identity():
            return
        if self.file is None:
            self._migrate()
        else:
            with _file_lock(self.file):
                self._migrate()
        self._prepared = self._identity()
        self.preparations += 1

    def _identity(self) -> object:
        """A value that changes when another file replaces this one; constant for a server."""
        if self.file is None:
            return self.uri
        try:
            found = os.stat(self.file)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            if _version(connection) == SCHEMA:
                return
        with self._engine.execution_options(writes=True).begin() as connection:
            if self.file is None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            found = _version(connection)
            if found == SCHEMA:  # by another process
                return
            if found is not None and found > SCHEMA:
                raise ForecastsUnavailable(
                    self.uri, f"its tables are of a newer Pregão: version {found}, and this one knows {SCHEMA}"
                )
            from alembic import command
            from alembic.config import Config

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            with ALEMBIC:
                command.upgrade(config, SCHEMA)

    def _rename_damaged(self, cause: sqlite3.DatabaseError) -> None:
        """Rename a damaged file, unless another process has done so; the next call creates a new one."""
        assert self.file is not None
        with suppress(OSError), _file_lock(self.file):
            if _is_damaged(self.file):
                renamed = set_aside(self.file)
                self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)
                logger.warning("%s is damaged (%s); it is kept as %s, and replaced.", self.file, cause, renamed)


def _ratio(close: float | None, origin: float | None) -> float | None:
    ratio = None if close is None or origin is None else close / origin
    return ratio if ratio is None or math.isfinite(ratio) else None


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("forecasts_version"):
        return None
    return str(connection.execute(sa.text("SELECT version_num FROM forecasts_version")).scalar_one())


def _is_damaged(file: Path) -> bool:
    try:
        connection = sqlite3.connect(file, timeout=SECONDS_FOR_A_LOCK)
        try:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        return _error_name(error).startswith(DAMAGED)


def _error_name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))  # errors of the driver itself have none


def _file_lock(file: Path) -> AbstractContextManager[None]:
    """Hold the lock under which one process at a time creates or renames the file."""
    return locked(file.with_name(f".{file.name}.lock"))


def _disable_driver_transactions(connection: Any, record: object) -> None:  # noqa: ANN401 - the driver's
    """Python's driver would start no transaction for a change of the tables; `_begin` does."""
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    # Two transactions that first read and then write would wait for each other's lock.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
