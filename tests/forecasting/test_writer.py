import json
import time

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from pregao.forecasting import writer
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.forecasting.log import ForecastLog
from pregao.forecasting.writer import ForecastWriter
from pregao.settings import settings
from tests.conftest import random_walk, run
from tests.forecasting.conftest import count, engine, record

AWAY = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(writer, "SECONDS_TO_WRITE", 0.5)
    monkeypatch.setattr(writer, "SECONDS_BETWEEN_TRIES", 0.0)


def test_a_forecast_that_the_log_did_not_take_waits_in_memory_and_is_retried(
    home, postgres_log, quick, monkeypatch, caplog
):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", AWAY)
    waits = ForecastWriter()
    assert waits.write(record()) is False
    assert waits.write(record()) is False
    assert waits.waiting == 1
    assert "cannot be reached" in caplog.text
    waits.log = postgres_log
    assert waits.write(record()) is True
    assert waits.waiting == 0
    assert count(postgres_log) == 1
    assert not (home / "outputs/forecasts.db").exists()


def test_a_log_that_hangs_does_not_hang_the_forecast(home, postgres_log, quick, monkeypatch):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", postgres_log.uri)
    hanging = ForecastWriter()
    assert hanging.write(record()) is True
    with engine(postgres_log.uri).connect() as holder:
        holder.execute(sa.text("LOCK TABLE forecasts IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        assert not any(hanging.write(record(version=version)) for version in (2, 3))
        assert time.monotonic() - started < 2
        assert hanging.waiting == 2
    while hanging.waiting:
        hanging.retry()
    assert count(postgres_log) == 3


def test_where_no_disk_takes_it_a_forecast_waits_in_memory(home, quick):
    home.joinpath("outputs").write_text("a file where a folder should be")
    waits = ForecastWriter()
    assert not any(waits.write(record(version=version)) for version in (1, 2))
    assert waits.waiting == 2
    home.joinpath("outputs").unlink()
    waits.retry()
    assert waits.waiting == 0
    assert count(waits.log) == 2


@pytest.mark.parametrize("loss", ["removed", "corrupted"])
def test_a_log_that_was_lost_gets_the_latest_forecasts_again(home, quick, loss):
    kept = ForecastWriter()
    for stock in ("VALE3", "PETR4"):
        assert kept.write(record(stock))
    if loss == "removed":
        kept.log.file.unlink()
    else:
        kept.log.file.write_bytes(b"this is no database" * 1000)
        kept.retry()
    kept.retry()
    assert count(kept.log) == 2


def test_forecasts_that_the_previous_version_left_in_the_home_are_brought_to_the_log(
    home, postgres_log, quick, monkeypatch
):
    left = ForecastLog(f"sqlite:///{home}/outputs/forecasts.db")
    left.add([record(), record(version=2)])
    monkeypatch.setenv("PREGAO_FORECASTS_URI", postgres_log.uri)
    assert ForecastWriter().write(record(version=3))
    assert count(postgres_log) == 3
    assert not left.exists()
    assert len(list(left.file.parent.glob("forecasts.moved-*.db"))) == 1


def test_the_log_in_the_home_is_not_moved(home, quick):
    assert ForecastWriter().write(record())
    assert ForecastWriter().write(record(version=2))
    assert [file.name for file in home.glob("outputs/*.db")] == ["forecasts.db"]


def test_predict_keeps_its_forecast_and_scores_the_past_ones(home, shared, prices):
    table = pd.read_csv(prices / "VALE3.csv")
    source = ["source=csv", f"source.path={prices}"]
    table.iloc[:-5].to_csv(prices / "VALE3.csv", index=False)
    before = forecast_stock("VALE3", "csv", prices, ForecastWriter())
    assert before.recorded is True
    table.to_csv(prices / "VALE3.csv", index=False)
    done = run("predict.py", "stock=VALE3", *source, home=home, PREGAO_FORECASTS_URI="")
    assert done.returncode in (0, 2), done.stderr
    forecast_stock("VALE3", "csv", prices, ForecastWriter())
    log = ForecastLog(settings().forecasts_uri)
    [entry] = accuracy(log.outcomes())
    assert entry["n"] == 5
    came = table["close"].iloc[-5:].to_numpy()
    told = np.array([row["close"] for row in before.rows[:5]])
    assert entry["mape"] == pytest.approx(100 * np.mean(np.abs(told - came) / came))
    assert count(log) == 2


def test_a_forecast_says_whether_it_is_recorded(home, shared, prices, monkeypatch, quick):
    closes = random_walk(30)["close"].tolist()
    assert forecast_closes(closes, "VALE3").as_json()["recorded"] is None
    assert forecast_stock("VALE3", "csv", prices).as_json()["recorded"] is None
    assert forecast_stock("VALE3", "csv", prices, ForecastWriter()).as_json()["recorded"] is True
    monkeypatch.setenv("PREGAO_FORECASTS_URI", AWAY)
    assert forecast_stock("VALE3", "csv", prices, ForecastWriter()).as_json()["recorded"] is False


def test_predict_warns_where_the_log_is_away(tmp_path, prices):
    given = ("stock=VALE3", "source=csv", f"source.path={prices}")
    table, form = (
        run("predict.py", *given, f"format={form}", home=tmp_path / "home", PREGAO_FORECASTS_URI=AWAY)
        for form in ("table", "json")
    )
    assert (table.returncode, form.returncode) == (0, 0), table.stderr + form.stderr
    assert "Not recorded: the log of forecasts does not answer" in table.stdout
    assert "cannot be reached" in table.stderr
    assert json.loads(form.stdout)["recorded"] is False
