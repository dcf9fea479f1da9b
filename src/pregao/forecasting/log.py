"""Past forecasts and their outcomes, in a database: written once, scored when their closes have come.

A forecast is known by its stock, the model and version that made it, and the day of the last close that it saw; of two
with the same four the first one stays. It is scored by return from that close, since an adjusted history moves
backwards, and so does every price of it; a return does not.

These outcomes do not set the width of the served bands. `rolling.py` replays the served model over the whole history at
each forecast, and finds the width from outcomes at every origin since the model's calibration. The log knows a part of
those only, from the days on which somebody asked, and would know them by several versions: it adds nothing there, and
a second width would have to be reconciled with the first. What it adds is what was said to people, and how that did.
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

SCHEMA = "0001"
"""The newest version of the tables, as the migrations call it."""

SECONDS_TO_CONNECT = 2
SECONDS_FOR_A_LOCK = 5
MOST_ROWS_AT_ONCE = 1000

MIGRATIONS = Path(__file__).with_name("migrations")
OWN_LOCK = 0x50524547
"""PostgreSQL's number of the lock that one process at a time changes the tables under."""

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
    """A forecast as it was told.

    Attributes:
        stock: the ticker.
        model: whose model made it: the ticker, or SHARED.
        version: of that model.
        run_id: of MLflow.
        as_of: the day of the last close that it saw.
        price: the basis of its prices.
        last_close: that close, on that basis, as it was then.
        rows: `date step close lower_80 upper_80 lower_90 upper_90`, one a step.
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
        """What it is known by."""
        return self.stock, self.model, self.version, self.as_of

    def table_rows(self) -> Iterator[dict[str, Any]]:
        """As the database has them."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        about = {name: getattr(self, name) for name in ("stock", "model", "version", "run_id", "as_of", "price")}
        for row in self.rows:
            yield {**about, "made_at": now, "last_close": self.last_close, **row, "outcome": None, "settled": False}


class ForecastLog:
    """One database of forecasts.

    Args:
        uri: SQLAlchemy's; sqlite:///… and postgresql://… are known here.

    Attributes:
        preparations: how often the tables were looked at or made anew: after a change, what was written may be gone.

    Raises:
        ForecastsUnavailable: by every method, where the database does not answer or is none of ours.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.file = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
        self.preparations = 0
        self._prepared: object = None

    def add(self, records: Sequence[Record]) -> None:
        """Write forecasts that are not there yet; on the disk when this returns, each whole or not at all."""
        self._add([row for record in records for row in record.table_rows()])

    def due(self, today: date) -> list[tuple[str, PriceBasis]]:
        """Stocks, each with the basis of its prices, of which some forecast's day has come and no outcome is known."""
        wanted = (
            sa.select(FORECASTS.c.stock, FORECASTS.c.price)
            .where(~FORECASTS.c.settled, FORECASTS.c.date <= today)
            .distinct()
            .order_by(FORECASTS.c.stock)
        )
        with self._reading() as connection:
            return [(row.stock, row.price) for row in connection.execute(wanted)]

    def settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> int:
        """Score the stock's forecasts by a `date close` table on their basis; the number of steps that were.

        A session that the table lacks, though it knows later ones, is never scored. Forecasts from before the table's
        first day wait for a longer one.
        """
        closes = dict(zip(prices["date"].dt.date, prices["close"].tolist(), strict=True))
        first, last = min(closes), max(closes)
        mine = (FORECASTS.c.stock == stock) & (FORECASTS.c.price == price) & ~FORECASTS.c.settled
        waiting = sa.select(FORECASTS.c.as_of, FORECASTS.c.date).distinct()
        waiting = waiting.where(mine, FORECASTS.c.date <= last, FORECASTS.c.as_of >= first)
        settled = (
            sa.update(FORECASTS)
            .where(mine, FORECASTS.c.as_of == sa.bindparam("origin"), FORECASTS.c.date == sa.bindparam("day"))
            .values(outcome=sa.bindparam("came"), settled=True)
        )
        with self._writing() as connection:
            pairs = connection.execute(waiting).all()
            found = [
                {"origin": origin, "day": day, "came": _ratio(closes.get(day), closes.get(origin))}
                for origin, day in pairs
            ]
            if found:
                connection.execute(settled, found)
        return len(found)

    def outcomes(self, stock: str | None = None) -> pd.DataFrame:
        """Sums of the scored steps: a row a stock, model, version and step, for `accuracy`.

        Prices are as they were at the forecast: what came is `last_close` × the return since then.
        """
        c = FORECASTS.c
        came = c.last_close * c.outcome
        error, naive = c.close - came, c.last_close - came
        groups = (c.stock, c.model, c.version, c.step)

        def inside(percent: int) -> sa.ColumnElement[Any]:
            band = came.between(c[f"lower_{percent}"], c[f"upper_{percent}"])
            return sa.func.sum(sa.case((band, 1), else_=0)).label(f"inside_{percent}")

        query = (
            sa.select(
                *groups,
                sa.func.count().label("n"),
                sa.func.min(c.as_of).label("first"),
                sa.func.max(c.as_of).label("last"),
                sa.func.sum(error * error).label("squared"),
                sa.func.sum(naive * naive).label("naive_squared"),
                sa.func.sum(sa.func.abs(error) / came).label("relative"),
                sa.func.sum(sa.func.abs(naive) / came).label("naive_relative"),
                inside(80),
                inside(90),
            )
            .where(c.outcome.is_not(None), *([] if stock is None else [c.stock == stock]))
            .group_by(*groups)
            .order_by(*groups)
        )
        with self._reading() as connection:
            return pd.DataFrame(connection.execute(query).mappings().all(), columns=list(query.selected_columns.keys()))

    def exists(self) -> bool:
        """Whether there is a database, as far as can be told without a look into it."""
        return self.file is None or self.file.exists()

    def check(self) -> None:
        """Look whether all is well; what can be mended is at the next look."""
        with self._reading() as connection:
            connection.execute(sa.select(FORECASTS.c.step).limit(1))

    def move_to(self, other: "ForecastLog") -> None:
        """Add every forecast of this file to another log, and rename the file to `forecasts.moved-…`."""
        assert self.file is not None
        with self._reading() as connection:
            for rows in connection.execute(sa.select(FORECASTS)).mappings().partitions(MOST_ROWS_AT_ONCE):
                other._add([dict(row) for row in rows])
        moved = self.file.with_name(f"{self.file.stem}.moved-{datetime.now():%Y%m%dT%H%M%S}{self.file.suffix}")
        with suppress(FileNotFoundError):  # another process has just moved it
            os.replace(self.file, moved)
            logger.warning("The forecasts of %s are in the log now; the file is kept as %s.", self.file, moved)

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        insert = sqlite.insert if self.file is not None else postgresql.insert
        with self._writing() as connection:
            for first in range(0, len(rows), MOST_ROWS_AT_ONCE):
                few = rows[first : first + MOST_ROWS_AT_ONCE]
                connection.execute(insert(FORECASTS).on_conflict_do_nothing(), list(few))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._refusing():
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._refusing():
            self._prepare()
            with self._engine.execution_options(writes=True).begin() as connection:
                yield connection

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:  # ImportError: the database's driver
            self._prepared = None
            cause = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(cause, sqlite3.DatabaseError) and _error_name(cause).startswith(DAMAGED):
                self._set_aside(cause)
            raise ForecastsUnavailable(self.uri, first_line(cause or error)) from error

    @cached_property
    def _engine(self) -> sa.Engine:
        # A connection for each question, of which there are few: who holds one open would write to a file that has been
        # deleted, or to a server that has gone.
        if self.file is not None:
            engine = sa.create_engine(self.uri, poolclass=sa.NullPool, connect_args={"timeout": SECONDS_FOR_A_LOCK})
            sa.event.listen(engine, "connect", _leave_transactions_to_us)
            sa.event.listen(engine, "begin", _begin)
            return engine
        try:
            url = sa.make_url(self.uri)
        except ArgumentError:
            raise ForecastsUnavailable(self.uri, "that is no address of a database") from None
        if url.get_backend_name() != "postgresql":
            raise ForecastsUnavailable(self.uri, "known are sqlite:///FILE and postgresql://USER@HOST/NAME")
        limits = {"connect_timeout": SECONDS_TO_CONNECT, "options": f"-c lock_timeout={SECONDS_FOR_A_LOCK}s"}
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool, connect_args=limits)

    def _prepare(self) -> None:
        """Bring the tables up to date, once; and again where the file is gone."""
        if self._prepared is not None and self._prepared == self._identity():
            return
        if self.file is None:
            self._migrate()
        else:
            with _alone(self.file):
                self._migrate()
        self._prepared = self._identity()
        self.preparations += 1

    def _identity(self) -> object:
        """Tells a file from another one in its place; a server is always itself."""
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
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OWN_LOCK)))
            found = _version(connection)
            if found == SCHEMA:  # another process was faster
                return
            if found is not None and found > SCHEMA:
                raise ForecastsUnavailable(
                    self.uri, f"a newer Pregão made its tables: version {found}, and {SCHEMA} is known here"
                )
            from alembic import command
            from alembic.config import Config

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            with ALEMBIC:
                command.upgrade(config, SCHEMA)

    def _set_aside(self, cause: sqlite3.DatabaseError) -> None:
        """Move a damaged file away, unless another process has just done so; the next call makes a new one."""
        assert self.file is not None
        with suppress(OSError), _alone(self.file):
            if _is_damaged(self.file):
                aside = set_aside(self.file)
                self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)
                logger.warning("%s is damaged (%s); it is kept as %s, and a new one begun.", self.file, cause, aside)


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
    return str(getattr(error, "sqlite_errorname", ""))  # an error of the driver's own has none


def _alone(file: Path) -> AbstractContextManager[None]:
    """Hold the lock under which one process at a time creates or renames the file."""
    return locked(file.with_name(f".{file.name}.lock"))


def _leave_transactions_to_us(connection: Any, record: object) -> None:  # noqa: ANN401 - the driver's
    """Python's driver would begin no transaction for a change of the tables."""
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    # Who begins by reading and then writes may find the file locked by one who did the same, and neither could go on.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
