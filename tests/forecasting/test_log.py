import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pregao.errors import ForecastsUnavailable
from pregao.evaluation.metrics import score_table
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.log import FORECASTS, MIGRATIONS, SCHEMA, ForecastLog
from pregao.prices.calendar import next_sessions
from tests.conftest import random_walk
from tests.forecasting.conftest import AS_OF, count, engine, record, rows


def table(*closes, first=AS_OF):
    """Closes of consecutive sessions, None for one without a close."""
    days = [first, *next_sessions("BVMF", first, len(closes) - 1)]
    found = pd.DataFrame({"date": pd.to_datetime(days), "close": closes})
    return found.dropna(ignore_index=True)


def test_of_two_forecasts_with_the_same_key_the_first_one_is_kept(log):
    log.add([record()])
    log.add([record(last_close=51), record(version=2), record(model="SHARED")])
    log.add([record()])
    kept = rows(log)
    assert (len(kept), count(log)) == (30, 3)
    assert {row["last_close"] for row in kept} == {50.0}
    assert [row["step"] for row in kept if row["version"] == 2] == list(range(1, 11))


def test_actual_closes_outside_a_band_are_counted_by_step(log):
    log.add([record(closes=[50.0, 50.0]), record("PETR4", closes=[50.0])])
    log.settle("VALE3", "adjusted", table(50.0, 53.0, 60.0))
    log.settle("PETR4", "adjusted", table(50.0, 50.0))
    halted, entry = accuracy(log.outcomes())
    assert [(step["coverage_80"], step["coverage_90"]) for step in entry["steps"]] == [(0, 100), (0, 0)]
    assert (entry["coverage_80"], entry["coverage_90"]) == (0, 50)
    assert halted["skill_mape"] is None, "last close has no error on a stock that does not move"


def test_forecasts_are_scored_from_the_day_of_their_close_on(log):
    assert (log.due(AS_OF), accuracy(log.outcomes())) == ([], [])
    log.add([record(closes=[50.0] * 4)])
    first, _, third, fourth = next_sessions("BVMF", AS_OF, 4)
    prices = table(50.0, 51.0, None, 52.0)
    assert log.due(AS_OF) == []
    assert log.due(first) == [("VALE3", "adjusted")]
    assert log.settle("VALE3", "adjusted", prices) == 3, "a session without a close is not waited for"
    assert log.settle("VALE3", "adjusted", prices) == 0
    assert [row["outcome"] for row in rows(log)] == pytest.approx([1.02, None, 1.04, None], nan_ok=True)
    assert [row["settled"] for row in rows(log)] == [True, True, True, False]
    assert log.due(third) == []
    assert log.due(fourth) == [("VALE3", "adjusted")]


def test_forecasts_from_before_a_table_wait_for_a_longer_one(log):
    log.add([record(closes=[50.0])])
    [day] = next_sessions("BVMF", AS_OF, 1)
    assert log.settle("VALE3", "adjusted", table(50.0, 51.0, first=day)) == 0
    assert log.due(date(2024, 12, 30)) == [("VALE3", "adjusted")]


def test_other_price_bases_and_other_stocks_are_not_scored(log):
    log.add([record(closes=[50.0]), record("PETR4", closes=[50.0])])
    prices = random_walk()
    assert log.settle("VALE3", "close", prices) == 0
    assert log.settle("VALE3", "adjusted", prices) == 1
    assert log.due(date(2025, 1, 1)) == [("PETR4", "adjusted")]
    assert accuracy(log.outcomes("PETR4")) == []
    assert [entry["stock"] for entry in accuracy(log.outcomes("VALE3"))] == ["VALE3"]


def test_the_scores_are_those_of_the_evaluation_though_a_dividend_changes_past_prices(log):
    prices = random_walk()
    closes = prices["close"].to_numpy()
    generator, origins = np.random.default_rng(1), list(range(300, 340))
    forecasts = np.array([closes[at] * np.exp(generator.normal(0, 0.02, 10)) for at in origins])
    days = [prices["date"][at].date() for at in origins]
    made = zip(days, closes[origins], forecasts, strict=True)
    log.add([record(as_of=day, last_close=close, closes=list(path)) for day, close, path in made])
    log.settle("VALE3", "adjusted", prices.assign(close=0.9 * prices["close"]))
    [entry] = accuracy(log.outcomes())
    assert (entry["n"], entry["first"], entry["last"]) == (400, days[0].isoformat(), days[-1].isoformat())
    y, last = np.array([closes[at + 1 : at + 11] for at in origins]), closes[origins]
    paths = {"model": forecasts[..., None], "naive": np.repeat(last[:, None], 10, axis=1)[..., None]}
    for scores, steps in ((entry, slice(None)), *((one, slice(at, at + 1)) for at, one in enumerate(entry["steps"]))):
        wanted = score_table(y[:, steps], {name: path[:, steps] for name, path in paths.items()}, last, (0.5,))
        for name in ("rmse", "mape", "skill_rmse", "skill_mape"):
            assert scores[name] == pytest.approx(wanted["model"][name])
        for name in ("rmse", "mape"):
            assert scores[f"naive_{name}"] == pytest.approx(wanted["naive"][name])


def add_from_another_process(uri, number):
    log = ForecastLog(uri)
    for version in range(5):
        log.add([record(version=version), record(version=1000 * number + version + 1)])
    return True


def test_processes_that_start_together_create_one_database_and_lose_no_forecast(log):
    with ProcessPoolExecutor(4, get_context("fork")) as processes:
        assert all(processes.map(add_from_another_process, [log.uri] * 4, range(1, 5)))
    assert count(log) == 5 + 4 * 5


def test_the_migrations_create_the_table_that_the_code_reads(log):
    log.check()
    with engine(log.uri).connect() as connection:
        columns = {column["name"]: column for column in sa.inspect(connection).get_columns("forecasts")}
        assert list(columns) == [column.name for column in FORECASTS.c]
        key = sa.inspect(connection).get_pk_constraint("forecasts")["constrained_columns"]
        assert key == ["stock", "model", "version", "as_of", "step"]
        context = MigrationContext.configure(connection, opts={"version_table": "forecasts_version"})
        assert context.get_current_revision() == SCHEMA
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_a_log_of_the_first_version_gets_the_index_of_scores_and_keeps_its_forecasts(log):
    log.add([record(closes=[50.0])])
    log.settle("VALE3", "adjusted", table(50.0, 51.0))
    with engine(log.uri).begin() as connection:
        connection.execute(sa.text("DROP INDEX forecasts_scored"))
        connection.execute(sa.text("UPDATE forecasts_version SET version_num = '0001'"))
    assert len(ForecastLog(log.uri).outcomes()) == 1
    with engine(log.uri).connect() as connection:
        names = {index["name"] for index in sa.inspect(connection).get_indexes("forecasts")}
    assert names == {"forecasts_to_settle", "forecasts_scored"}


def test_the_last_settled_day_changes_when_forecasts_are_scored(log):
    assert log.last_settled() is None
    log.add([record(closes=[50.0] * 3), record("PETR4", closes=[50.0])])
    assert log.last_settled() is None
    days = next_sessions("BVMF", AS_OF, 2)
    log.settle("VALE3", "adjusted", table(50.0, 51.0))
    assert log.last_settled() == (days[0], 1)
    log.settle("PETR4", "adjusted", table(50.0, 51.0))
    assert log.last_settled() == (days[0], 2)
    log.settle("VALE3", "adjusted", table(50.0, 51.0, 52.0))
    assert log.last_settled() == (days[1], 1)


def test_the_newest_version_is_the_last_one_with_scores(log):
    log.add([record(version=version, closes=[50.0] * 2) for version in (1, 2)])
    log.settle("VALE3", "adjusted", table(50.0, 51.0, 51.0))
    log.add([record(version=3, as_of=next_sessions("BVMF", AS_OF, 2)[1])])
    log.add([record(model="SHARED", version=1, closes=[50.0])])
    log.settle("VALE3", "adjusted", table(50.0, 51.0, 51.0))
    found = [(row["model"], row["version"], row["step"]) for row in log.outcomes(newest=True)]
    assert found == [("SHARED", 1, 1), ("VALE3", 2, 1), ("VALE3", 2, 2)]
    assert len(log.outcomes()) == 5


def test_a_database_of_a_newer_version_is_not_changed(log):
    log.add([record()])
    with engine(log.uri).begin() as connection:
        connection.execute(sa.text("UPDATE forecasts_version SET version_num = '9999'"))
    with pytest.raises(ForecastsUnavailable, match="version 9999"):
        ForecastLog(log.uri).add([record(version=2)])
    assert count(log) == 1


UNUSABLE = (
    "mysql://me:secret@host/db",
    "no address",
    "sqlite://",
    "sqlite:////dev/null/x",
    "postgresql://me:secret@[::1]:1/x",
)


@pytest.mark.parametrize("uri", UNUSABLE)
def test_a_database_that_cannot_be_used_is_an_error_without_its_password(uri):
    with pytest.raises(ForecastsUnavailable, match="PREGAO_FORECASTS_URI") as refused:
        ForecastLog(uri).add([record()])
    assert "secret" not in str(refused.value)


def test_a_killed_process_leaves_whole_forecasts(tmp_path):
    log = ForecastLog(f"sqlite:///{tmp_path}/forecasts.db")
    code = (
        "import sys; from tests.forecasting.conftest import record; from pregao.forecasting.log import ForecastLog\n"
        f"log = ForecastLog({log.uri!r})\n"
        "for version in range(10_000):\n    log.add([record(version=version)]); print(version, flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    written = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    written += [int(line) for line in process.communicate()[0].split()]
    kept = pd.DataFrame(rows(log)).groupby("version").size()
    assert set(written) <= set(kept.index)
    assert set(kept) == {10}


def test_a_query_that_takes_too_long_is_ended(postgres_log, monkeypatch):
    monkeypatch.setattr("pregao.forecasting.log.SECONDS_FOR_A_STATEMENT", 1)
    with pytest.raises(ForecastsUnavailable, match="statement timeout"), postgres_log._reading() as connection:
        connection.execute(sa.select(sa.func.pg_sleep(60)))
