import os
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
from tests.conftest import environment, random_walk
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


def test_a_forecast_is_scored_by_its_return_since_dividends_change_past_prices(log):
    log.add([record(closes=[51.0, 52.0], last_close=50.0)])
    # After a dividend the whole history is halved, 50 → 25; the outcomes are +4 %, then +2 %.
    assert log.settle("VALE3", "adjusted", table(25.0, 26.0, 25.5)) == 2
    [entry] = accuracy(log.outcomes())
    assert entry["n"] == 2
    assert entry["rmse"] == pytest.approx(np.sqrt(((51 - 52) ** 2 + (52 - 51) ** 2) / 2))
    assert entry["mape"] == pytest.approx(100 * (1 / 52 + 1 / 51) / 2)
    assert entry["naive_rmse"] == pytest.approx(np.sqrt((2**2 + 1**2) / 2))
    assert entry["naive_mape"] == pytest.approx(100 * (2 / 52 + 1 / 51) / 2)
    assert entry["skill_mape"] == pytest.approx(100 * (1 - (1 / 52 + 1 / 51) / (2 / 52 + 1 / 51)))
    assert [step["rmse"] for step in entry["steps"]] == pytest.approx([1, 1])


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


def test_the_scores_are_those_of_the_evaluation(log):
    prices = random_walk()
    closes = prices["close"].to_numpy()
    generator = np.random.default_rng(1)
    origins = list(range(300, 340))
    forecasts = [closes[at] * np.exp(generator.normal(0, 0.02, 10)) for at in origins]
    made = zip(origins, forecasts, strict=True)
    log.add([record(as_of=prices["date"][at].date(), last_close=closes[at], closes=list(f)) for at, f in made])
    log.settle("VALE3", "adjusted", prices)
    [entry] = accuracy(log.outcomes())
    assert entry["n"] == 400
    assert [entry["first"], entry["last"]] == [prices["date"][at].date().isoformat() for at in (300, 339)]
    y, last = np.array([closes[at + 1 : at + 11] for at in origins]), closes[origins]
    points = np.array(forecasts)[..., None]
    for scores, steps in ((entry, slice(None)), *((one, slice(at, at + 1)) for at, one in enumerate(entry["steps"]))):
        wanted = score_table(y[:, steps], {"model": points[:, steps]}, last, (0.5,))["model"]
        for name in ("rmse", "mape", "skill_rmse", "skill_mape"):
            assert scores[name] == pytest.approx(wanted[name])


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


def test_a_database_of_a_newer_version_is_not_changed(log):
    log.add([record()])
    with engine(log.uri).begin() as connection:
        connection.execute(sa.text("UPDATE forecasts_version SET version_num = '9999'"))
    with pytest.raises(ForecastsUnavailable, match="version 9999"):
        ForecastLog(log.uri).add([record(version=2)])
    assert count(log) == 1


def test_the_forecasts_of_a_file_move_to_another_log(log, tmp_path):
    file = ForecastLog(f"sqlite:///{tmp_path}/forecasts.db")
    file.add([record(version=version) for version in range(150)])  # more rows than one statement takes
    log.add([record(version=3)])
    file.move_to(log)
    assert count(log) == 150
    assert not file.exists()
    [moved] = tmp_path.glob("forecasts.moved-*.db")
    assert count(ForecastLog(f"sqlite:///{moved}")) == 150


@pytest.mark.parametrize(
    "uri", ["mysql://me:secret@host/db", "no address", "sqlite://", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_used_is_an_error_without_its_password(uri):
    with pytest.raises(ForecastsUnavailable, match="PREGAO_FORECASTS_URI") as refused:
        ForecastLog(uri).add([record()])
    assert "secret" not in str(refused.value)


@pytest.fixture
def file_log(tmp_path):
    return ForecastLog(f"sqlite:///{tmp_path / 'outputs/forecasts.db'}")


@pytest.mark.parametrize("damage", [b"not a database" * 1000, None])
def test_a_damaged_file_is_renamed_and_replaced(file_log, damage):
    file_log.add([record(version=version) for version in range(50)])
    whole = file_log.file.read_bytes()
    file_log.file.write_bytes(damage or whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(ForecastsUnavailable, match="database"):
        file_log.add([record(version=99)])
    file_log.add([record()])
    assert count(file_log) == 1
    assert len(list(file_log.file.parent.glob("forecasts.corrupt-*"))) == 1


def test_a_deleted_file_is_created_again(file_log):
    file_log.add([record()])
    file_log.file.unlink()
    file_log.add([record(version=2)])
    assert count(file_log) == 1
    assert file_log.preparations == 2


def test_a_killed_process_leaves_whole_forecasts(file_log):
    code = (
        "import sys; from tests.forecasting.conftest import record; from pregao.forecasting.log import ForecastLog\n"
        f"log = ForecastLog({file_log.uri!r})\n"
        "for version in range(10_000):\n    log.add([record(version=version)]); print(version, flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    written = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    written += [int(line) for line in process.communicate()[0].split()]
    kept = pd.DataFrame(rows(file_log)).groupby("version").size()
    assert set(written) <= set(kept.index)
    assert set(kept) == {10}


@pytest.mark.slow
def test_threads_that_create_both_databases_together_do_not_mix_them_up(tmp_path):
    """In a separate process, since earlier imports change the order."""
    script = """
import time
from datetime import date
from concurrent.futures import ThreadPoolExecutor
from pregao.tracking import client, registry
from pregao.forecasting.writer import ForecastWriter

def forecasts():
    time.sleep(0.3)  # MLflow is creating its tables
    return ForecastWriter().log.due(date.today())

client.preload()
with ThreadPoolExecutor() as threads:
    mlflow, log = threads.submit(registry.champions), threads.submit(forecasts)
    print(mlflow.result(), log.result())
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{} []\n"
