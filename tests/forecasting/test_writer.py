import os

import pandas as pd
import pytest
import sqlalchemy as sa

from pregao.cli.terminal import show_forecast
from pregao.forecasting import writer
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.forecasting.log import ForecastLog
from pregao.forecasting.writer import ForecastWriter
from pregao.settings import settings
from tests.conftest import random_walk
from tests.forecasting.conftest import count, engine, record

UNAVAILABLE = "postgresql://pregao@127.0.0.1:1/nothing"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(writer, "SECONDS_TO_WRITE", 0.5)
    monkeypatch.setattr(writer, "SECONDS_BETWEEN_TRIES", 0.0)


def test_a_forecast_that_cannot_be_written_waits_in_memory_and_is_retried_after_a_pause(
    home, postgres_log, monkeypatch, caplog
):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", UNAVAILABLE)
    waits = ForecastWriter()
    assert waits.write(record()) is False
    assert "cannot be reached" in caplog.text
    waits.log = postgres_log
    assert waits.write(record()) is False
    assert waits.waiting == 1
    waits.retry()
    assert waits.write(record()) is True
    assert (waits.waiting, count(postgres_log)) == (0, 1)
    assert not (home / "outputs/forecasts.db").exists()


def test_a_log_that_hangs_does_not_block_the_forecast(home, postgres_log, quick, monkeypatch):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", postgres_log.uri)
    hanging = ForecastWriter()
    assert hanging.write(record()) is True
    with engine(postgres_log.uri).connect() as holder:
        holder.execute(sa.text("LOCK TABLE forecasts IN ACCESS EXCLUSIVE MODE"))
        assert not any(hanging.write(record(version=version)) for version in (2, 3))  # while it is locked
        assert hanging.waiting == 2
    while hanging.waiting:
        hanging.retry()
    assert count(postgres_log) == 3


@pytest.mark.parametrize("loss", ["removed", "replaced", "corrupted"])
def test_a_lost_log_is_created_again_with_the_latest_forecasts(home, quick, loss):
    kept = ForecastWriter()
    for version in range(25):
        assert kept.write(record(version=version))
        assert kept.write(record("PETR4", version=version))
    whole = kept.log.file.read_bytes()
    if loss == "removed":
        kept.log.file.unlink()
    else:
        noise = os.urandom(len(whole) - 4096)
        kept.log.file.write_bytes(b"not a database" * 1000 if loss == "replaced" else whole[:4096] + noise)
        kept.retry()
    kept.retry()
    assert count(kept.log) == 2
    assert len(list(home.glob("outputs/forecasts.corrupt-*"))) == (loss != "removed")


def test_forecasts_of_an_earlier_version_in_the_home_move_to_the_log(home, postgres_log, quick, monkeypatch):
    left = ForecastLog(f"sqlite:///{home}/outputs/forecasts.db")
    left.add([record(version=version) for version in range(150)])  # more rows than one statement takes
    postgres_log.add([record(version=3)])
    monkeypatch.setenv("PREGAO_FORECASTS_URI", postgres_log.uri)
    assert ForecastWriter().write(record(version=1000))
    assert count(postgres_log) == 151
    assert not left.exists()
    [moved] = left.file.parent.glob("forecasts.moved-*.db")
    assert count(ForecastLog(f"sqlite:///{moved}")) == 150


def test_a_forecast_is_logged_and_scores_the_past_ones(home, shared, prices, quick, monkeypatch, capsys):
    table = pd.read_csv(prices / "VALE3.csv")
    table.iloc[:-5].to_csv(prices / "VALE3.csv", index=False)
    before = forecast_stock("VALE3", "csv", prices, ForecastWriter())
    table.to_csv(prices / "VALE3.csv", index=False)
    assert forecast_stock("VALE3", "csv", prices, ForecastWriter()).as_json()["recorded"] is True
    log = ForecastLog(settings().forecasts_uri)
    [entry] = accuracy(log.outcomes())
    assert (entry["n"], count(log)) == (5, 2)
    errors = pd.Series([row["close"] for row in before.rows[:5]], table.index[-5:]) / table["close"].iloc[-5:] - 1
    assert entry["mape"] == pytest.approx(100 * errors.abs().mean())
    assert forecast_stock("VALE3", "csv", prices).as_json()["recorded"] is None
    assert forecast_closes(random_walk(30)["close"].tolist(), "VALE3").as_json()["recorded"] is None
    monkeypatch.setenv("PREGAO_FORECASTS_URI", UNAVAILABLE)
    lost = forecast_stock("VALE3", "csv", prices, ForecastWriter())
    assert lost.as_json()["recorded"] is False
    show_forecast(lost, "table")
    assert "Not recorded" in capsys.readouterr().out
