import json
import os
import signal
import sqlite3
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
from pregao.forecasting import log as forecast_log
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.log import FORECASTS, MIGRATIONS, SCHEMA, ForecastLog
from pregao.prices.calendar import next_sessions
from tests.conftest import environment, random_walk
from tests.forecasting.conftest import AS_OF, count, engine, record, rows


def test_a_forecast_is_kept_once_and_the_first_one_stays(log):
    log.add([record()])
    log.add([record(last_close=51), record(version=2)])
    log.add([record()])
    kept = rows(log)
    assert len(kept) == 20
    assert count(log) == 2
    assert {row["last_close"] for row in kept} == {50.0}
    assert [row["step"] for row in kept if row["version"] == 1] == list(range(1, 11))


def test_the_shared_models_version_is_not_the_stocks_own(log):
    log.add([record(), record(model="SHARED")])
    assert count(log) == 2


def test_a_forecast_is_scored_by_its_return_whatever_became_of_the_prices(log):
    log.add([record(closes=[51.0, 52.0], last_close=50.0)])
    days = next_sessions("BVMF", AS_OF, 2)
    # A dividend later, the whole history is worth half of what it was: 50 → 25, and the outcome is + 4 %, then + 2 %.
    later = pd.DataFrame({"date": pd.to_datetime([AS_OF, *days]), "close": [25.0, 26.0, 25.5]})
    assert log.settle("VALE3", "adjusted", later) == 2
    [entry] = accuracy(log.outcomes())
    assert entry["n"] == 2
    assert entry["rmse"] == pytest.approx(np.sqrt(((51 - 52) ** 2 + (52 - 51) ** 2) / 2))
    assert entry["mape"] == pytest.approx(100 * (1 / 52 + 1 / 51) / 2)
    assert entry["naive_rmse"] == pytest.approx(np.sqrt((2**2 + 1**2) / 2))
    assert entry["skill_mape"] == pytest.approx(100 * (1 - (1 / 52 + 1 / 51) / (2 / 52 + 1 / 51)))
    assert entry["coverage_90"] == 100
    assert [step["rmse"] for step in entry["steps"]] == pytest.approx([1, 1])
    assert entry["first"] == entry["last"] == AS_OF.isoformat()


def test_a_band_that_misses_is_counted_by_step(log):
    log.add([record(closes=[50.0, 50.0])])
    days = next_sessions("BVMF", AS_OF, 2)
    log.settle("VALE3", "adjusted", pd.DataFrame({"date": pd.to_datetime([AS_OF, *days]), "close": [50.0, 53.0, 60.0]}))
    [entry] = accuracy(log.outcomes())
    assert [(step["coverage_80"], step["coverage_90"]) for step in entry["steps"]] == [(0, 100), (0, 0)]
    assert (entry["coverage_80"], entry["coverage_90"]) == (0, 50)


def test_a_stock_that_never_moved_has_no_skill(log):
    log.add([record(closes=[50.0])])
    [day] = next_sessions("BVMF", AS_OF, 1)
    log.settle("VALE3", "adjusted", pd.DataFrame({"date": pd.to_datetime([AS_OF, day]), "close": [50.0, 50.0]}))
    [entry] = accuracy(log.outcomes())
    assert entry["skill_mape"] is None
    json.dumps(entry, allow_nan=False)


def test_only_what_has_come_is_scored_and_what_never_comes_is_not_waited_for(log):
    log.add([record(closes=[50.0] * 4)])
    first, _, third, fourth = next_sessions("BVMF", AS_OF, 4)
    table = pd.DataFrame({"date": pd.to_datetime([AS_OF, first, third]), "close": [50.0, 51.0, 52.0]})
    assert log.due(date(2024, 11, 28)) == []
    assert log.due(first) == [("VALE3", "adjusted")]
    assert log.settle("VALE3", "adjusted", table) == 3
    assert log.settle("VALE3", "adjusted", table) == 0
    assert [row["outcome"] for row in rows(log)] == pytest.approx([1.02, None, 1.04, None], nan_ok=True)
    assert [row["settled"] for row in rows(log)] == [True, True, True, False]
    assert log.due(third) == []
    assert log.due(fourth) == [("VALE3", "adjusted")]


def test_forecasts_wait_for_a_table_that_knows_the_close_they_began_at(log):
    log.add([record(closes=[50.0])])
    late = random_walk(n=10)
    assert log.settle("VALE3", "adjusted", late) == 0
    assert log.due(date(2024, 12, 30)) == [("VALE3", "adjusted")]


def test_another_price_basis_and_another_stock_are_not_touched(log):
    log.add([record(closes=[50.0]), record("PETR4", closes=[50.0])])
    prices = random_walk()
    assert log.settle("VALE3", "close", prices) == 0
    assert log.settle("VALE3", "adjusted", prices) == 1
    assert log.due(date(2025, 1, 1)) == [("PETR4", "adjusted")]
    assert [entry["stock"] for entry in accuracy(log.outcomes("PETR4"))] == []
    assert [entry["stock"] for entry in accuracy(log.outcomes("VALE3"))] == ["VALE3"]


def test_the_live_scores_are_those_of_the_evaluation(log):
    prices = random_walk()
    closes = prices["close"].to_numpy()
    generator = np.random.default_rng(1)
    origins = range(300, 340)
    forecasts = [closes[at] * np.exp(generator.normal(0, 0.02, 10)) for at in origins]
    log.add(
        [
            record(as_of=prices["date"][at].date(), last_close=closes[at], closes=list(forecast))
            for at, forecast in zip(origins, forecasts, strict=True)
        ]
    )
    log.settle("VALE3", "adjusted", prices)
    [entry] = accuracy(log.outcomes())
    y, last = np.array([closes[at + 1 : at + 11] for at in origins]), closes[list(origins)]
    points = np.array(forecasts)[..., None]
    assert entry["n"] == 400
    for scores, steps in ((entry, slice(None)), *((one, slice(at, at + 1)) for at, one in enumerate(entry["steps"]))):
        wanted = score_table(y[:, steps], {"model": points[:, steps]}, last, (0.5,))["model"]
        for name in ("rmse", "mape", "skill_rmse", "skill_mape"):
            assert scores[name] == pytest.approx(wanted[name])


def test_an_empty_log_has_no_accuracy(log):
    assert accuracy(log.outcomes()) == []
    assert log.due(AS_OF) == []


def add_from_another_process(uri, number):
    log = ForecastLog(uri)
    for version in range(5):
        log.add([record(version=version), record(version=1000 * number + version + 1)])
    return True


def test_processes_that_begin_at_once_make_one_database_and_lose_nothing(log):
    with ProcessPoolExecutor(4, get_context("fork")) as processes:
        assert all(processes.map(add_from_another_process, [log.uri] * 4, range(1, 5)))
    assert count(log) == 5 + 4 * 5


def test_the_migrations_make_the_table_that_the_code_knows(log):
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


def test_a_database_of_a_newer_version_is_left_alone(log):
    log.add([record()])
    with engine(log.uri).begin() as connection:
        connection.execute(sa.text("UPDATE forecasts_version SET version_num = '9999'"))
    with pytest.raises(ForecastsUnavailable, match="a newer Pregão made its tables: version 9999"):
        ForecastLog(log.uri).add([record()])


def test_forecasts_move_from_a_file_to_another_log(log, tmp_path):
    file = ForecastLog(f"sqlite:///{tmp_path}/forecasts.db")
    file.add([record(version=version) for version in range(150)])
    log.add([record(version=3)])
    file.move_to(log)
    assert count(log) == 150
    assert not file.exists()
    [moved] = tmp_path.glob("forecasts.moved-*.db")
    assert count(ForecastLog(f"sqlite:///{moved}")) == 150


@pytest.mark.parametrize(
    "uri", ["mysql://me:secret@host/db", "no address", "sqlite://", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_used_is_a_sentence_without_its_password(uri):
    with pytest.raises(ForecastsUnavailable, match="PREGAO_FORECASTS_URI") as refused:
        ForecastLog(uri).add([record()])
    assert "secret" not in str(refused.value)


@pytest.fixture
def own(tmp_path):
    return ForecastLog(f"sqlite:///{tmp_path / 'outputs/forecasts.db'}")


@pytest.mark.parametrize("damage", [b"this is no database" * 1000, None])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(own, damage):
    own.add([record(version=version) for version in range(50)])
    whole = own.file.read_bytes()
    own.file.write_bytes(damage or whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(ForecastsUnavailable, match="database"):
        own.add([record(version=99)])
    own.add([record()])
    assert count(own) == 1
    assert len(list(own.file.parent.glob("forecasts.corrupt-*"))) == 1


def test_a_file_that_is_gone_is_made_again(own):
    own.add([record()])
    own.file.unlink()
    own.add([record(version=2)])
    assert count(own) == 1
    assert own.preparations == 2


def test_what_was_kept_can_be_read_from_a_disk_that_is_read_only(own):
    own.add([record(closes=[50.0])])
    own.settle("VALE3", "adjusted", random_walk())
    os.chmod(own.file, 0o444)
    os.chmod(own.file.parent, 0o555)
    assert len(accuracy(ForecastLog(own.uri).outcomes())) == 1


def test_a_writer_that_is_killed_leaves_whole_forecasts(own, tmp_path):
    code = (
        "import sys; from tests.forecasting.conftest import record; from pregao.forecasting.log import ForecastLog\n"
        f"log = ForecastLog({own.uri!r})\n"
        "for version in range(10_000):\n    log.add([record(version=version)]); print(version, flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    told += [int(line) for line in writer.stdout.read().split()]
    writer.communicate()
    kept = pd.DataFrame(rows(own)).groupby("version").size()
    assert set(told) <= set(kept.index)
    assert set(kept) == {10}


def test_a_sqlite_without_names_for_its_errors_is_still_a_sentence():
    assert forecast_log._error_name(sqlite3.DatabaseError("the driver's own")) == ""


@pytest.mark.slow
def test_threads_that_make_both_databases_at_once_do_not_mix_them_up(tmp_path):
    """In a process of its own: what has been imported before changes who is first."""
    script = """
import time
from datetime import date
from concurrent.futures import ThreadPoolExecutor
from pregao.tracking import client, registry
from pregao.forecasting.writer import ForecastWriter

def forecasts():
    time.sleep(0.3)  # MLflow is in the middle of its tables
    return ForecastWriter().log.due(date.today())

client.preload()
with ThreadPoolExecutor() as threads:
    mlflow, log = threads.submit(registry.champions), threads.submit(forecasts)
    print(mlflow.result(), log.result())
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{} []\n"
