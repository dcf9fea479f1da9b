"""A log of forecasts in SQLite and in PostgreSQL, and forecasts to write."""

import re
from datetime import date

import pytest
import sqlalchemy as sa

from pregao.forecasting.log import FORECASTS, ForecastLog, Record
from pregao.prices.calendar import next_sessions
from tests.postgres import postgres  # noqa: F401 - a fixture

AS_OF = date(2024, 11, 28)


def record(stock="VALE3", version=1, as_of=AS_OF, last_close=50.0, closes=None, model=None, steps=10):
    closes = closes or [last_close * (1 + step / 1000) for step in range(1, steps + 1)]
    days = next_sessions("BVMF", as_of, len(closes))
    rows = [
        {
            "date": day,
            "step": step,
            "close": close,
            "lower_80": close * 0.95,
            "upper_80": close * 1.05,
            "lower_90": close * 0.9,
            "upper_90": close * 1.1,
        }
        for step, (day, close) in enumerate(zip(days, closes, strict=True), start=1)
    ]
    return Record(stock, model or stock, version, "run", as_of, "adjusted", last_close, rows)


def engine(uri, **choices):
    return sa.create_engine(uri.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool, **choices)


def rows(log):
    with engine(log.uri).connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(FORECASTS).order_by(*FORECASTS.c)).mappings()]


def count(log):
    """Forecasts in the log."""
    return sum(row["step"] == 1 for row in rows(log))


@pytest.fixture
def postgres_log(postgres, tmp_path):  # noqa: F811 - the imported fixture
    name = re.sub(r"\W", "_", tmp_path.name).lower()
    with engine(postgres.uri, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    return ForecastLog(postgres.uri.replace("/postgres", f"/{name}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_log")
    return ForecastLog(f"sqlite:///{tmp_path / 'of a name with spaces/forecasts.db'}")
