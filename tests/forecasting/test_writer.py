import numpy as np
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

UNAVAILABLE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(writer, "SECONDS_TO_WRITE", 0.5)
    monkeypatch.setattr(writer, "SECONDS_BETWEEN_TRIES", 0.0)


def test_a_forecast_that_cannot_be_written_waits_in_memory_and_is_retried(
    home, postgres_log, quick, monkeypatch, caplog
):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", UNAVAILABLE)
    waits = ForecastWriter()
    assert waits.write(record()) is False
    assert waits.write(record()) is False
    assert waits.waiting == 1
    assert "cannot be reached" in caplog.text
    waits.log = postgres_log
    assert waits.write(record()) is True
    assert (waits.waiting, count(postgres_log)) == (0, 1)
    assert not (home / "outputs/forecasts.db").exists()


def test_the_log_is_retried_only_after_a_pause(home, monkeypatch):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", UNAVAILABLE)
    waits = ForecastWriter()
    assert waits.write(record()) is False
    waits.log = ForecastLog(f"sqlite:///{home}/outputs/other.db")
    assert waits.write(record()) is False
    waits.retry()
    assert waits.write(record()) is True


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


def test_a_forecast_waits_in_memory_while_the_disk_fails(home, quick):
    home.joinpath("outputs").write_text("a file where a folder should be")
    waits = ForecastWriter()
    assert not any(waits.write(record(version=version)) for version in (1, 2))
    home.joinpath("outputs").unlink()
    waits.retry()
    assert (waits.waiting, count(waits.log)) == (0, 2)
    assert [file.name for file in home.glob("outputs/*.db")] == ["forecasts.db"], "this log is not moved"


@pytest.mark.parametrize("loss", ["removed", "corrupted"])
def test_a_lost_log_gets_the_latest_forecasts_again(home, quick, loss):
    kept = ForecastWriter()
    for stock in ("VALE3", "PETR4"):
        assert kept.write(record(stock))
    if loss == "removed":
        kept.log.file.unlink()
    else:
        kept.log.file.write_bytes(b"not a database" * 1000)
        kept.retry()
    kept.retry()
    assert count(kept.log) == 2


def test_forecasts_of_an_earlier_version_in_the_home_move_to_the_log(home, postgres_log, quick, monkeypatch):
    left = ForecastLog(f"sqlite:///{home}/outputs/forecasts.db")
    left.add([record(), record(version=2)])
    monkeypatch.setenv("PREGAO_FORECASTS_URI", postgres_log.uri)
    assert ForecastWriter().write(record(version=3))
    assert count(postgres_log) == 3
    assert not left.exists()
    assert len(list(left.file.parent.glob("forecasts.moved-*.db"))) == 1


def test_a_forecast_is_logged_and_scores_the_past_ones(home, shared, prices, quick, monkeypatch, capsys):
    table = pd.read_csv(prices / "VALE3.csv")
    table.iloc[:-5].to_csv(prices / "VALE3.csv", index=False)
    before = forecast_stock("VALE3", "csv", prices, ForecastWriter())
    table.to_csv(prices / "VALE3.csv", index=False)
    assert forecast_stock("VALE3", "csv", prices, ForecastWriter()).as_json()["recorded"] is True
    log = ForecastLog(settings().forecasts_uri)
    [entry] = accuracy(log.outcomes())
    assert (entry["n"], count(log)) == (5, 2)
    actual = table["close"].iloc[-5:].to_numpy()
    predicted = np.array([row["close"] for row in before.rows[:5]])
    assert entry["mape"] == pytest.approx(100 * np.mean(np.abs(predicted - actual) / actual))
    assert forecast_stock("VALE3", "csv", prices).as_json()["recorded"] is None
    assert forecast_closes(random_walk(30)["close"].tolist(), "VALE3").as_json()["recorded"] is None
    monkeypatch.setenv("PREGAO_FORECASTS_URI", UNAVAILABLE)
    lost = forecast_stock("VALE3", "csv", prices, ForecastWriter())
    assert lost.as_json()["recorded"] is False
    show_forecast(lost, "table")
    assert "Not recorded" in capsys.readouterr().out
