"""A log of forecasts in SQLite and in PostgreSQL, forecasts to write, and models to serve."""

from datetime import date

import pytest
import sqlalchemy as sa

from pregao.forecasting.log import FORECASTS, ForecastLog, Record
from pregao.prices.calendar import next_sessions
from pregao.prices.symbols import Symbol
from pregao.tracking import registry, runs
from tests.postgres import postgres  # noqa: F401 - a fixture

AS_OF = date(2024, 11, 28)


def record(stock="VALE3", version=1, as_of=AS_OF, last_close=50.0, closes=None, model=None):
    closes = closes or [last_close * (1 + step / 1000) for step in range(1, 11)]
    factors = {"close": 1, "lower_80": 0.95, "upper_80": 1.05, "lower_90": 0.9, "upper_90": 1.1}
    days = next_sessions("BVMF", as_of, len(closes))
    rows = [
        {"date": day, "step": step, **{name: close * factor for name, factor in factors.items()}}
        for step, (day, close) in enumerate(zip(days, closes, strict=True), start=1)
    ]
    return Record(stock, model or stock, version, "run", as_of, "adjusted", last_close, rows)


def engine(uri):
    return sa.create_engine(uri.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)


def rows(log):
    with engine(log.uri).connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(FORECASTS).order_by(*FORECASTS.c)).mappings()]


def count(log):
    """Forecasts in the log."""
    return sum(row["step"] == 1 for row in rows(log))


def register(model, folder):
    """The number of a model's new version, which is not served yet."""
    model.save(folder / "model")
    symbol = Symbol.parse(model.card.stock)
    with runs.start_run(symbol, "registered") as run:
        return registry.register(run, symbol, folder / "model")


@pytest.fixture
def postgres_log(postgres, tmp_path):  # noqa: F811 - the imported fixture
    return ForecastLog(postgres.database(tmp_path.name))


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_log")
    return ForecastLog(f"sqlite:///{tmp_path / 'a name with spaces/forecasts.db'}")
