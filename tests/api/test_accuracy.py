import asyncio
import contextlib
import re
import threading

import pandas as pd
import pytest

from pregao.api import forecast_log_service
from pregao.api.forecast_log_service import ForecastLogService
from pregao.api.monitoring import Monitoring
from pregao.api.schemas import CLOSES
from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from tests.api.conftest import POLL, client_of, until
from tests.forecasting.conftest import record, rows
from tests.forecasting.test_log import table

SCORES = {"n", "rmse", "mape", "naive_rmse", "naive_mape", "skill_rmse", "skill_mape", "coverage_80", "coverage_90"}


def logged():
    return rows(ForecastLog(settings().forecasts_uri))


def test_a_forecast_is_in_the_log_when_it_is_returned_and_given_closes_are_not(client):
    found = client.post("/predict", json={"stock": "VALE3"}).json()
    key = ("VALE3", found["model"]["version"], found["as_of"])
    mine = [row for row in logged() if (row["model"], row["version"], str(row["as_of"])) == key]
    assert [row["close"] for row in mine] == [row["close"] for row in found["forecast"]]
    before = logged()
    client.post("/predict", json={"stock": "VALE3", "historical_data": CLOSES})
    assert logged() == before


def test_a_stock_without_forecasts_has_no_accuracy(client):
    assert client.get("/accuracy?stock=../x").status_code == 422
    assert client.get("/accuracy?stock=ABEV3").json() == {"accuracy": [], "waiting": 0}


def test_a_forecast_is_scored_once_its_closes_are_known(shared, prices):
    file = prices / "VALE3.csv"
    table = pd.read_csv(file)
    table.iloc[:-3].to_csv(file, index=False)
    with client_of(prices, "retry=0.1", POLL) as client:
        found = client.post("/predict", json={"stock": "VALE3"}).json()
        assert client.get("/accuracy").json()["accuracy"] == []
        for known in (2, 3):
            table.iloc[: len(table) - 3 + known].to_csv(file, index=False)
            [entry] = until(
                lambda: client.get("/accuracy?stock=VALE3").json()["accuracy"],
                lambda entries, known=known: entries and entries[0]["n"] == known,
            )
        assert set(entry) == SCORES | {"stock", "model", "version", "first", "last", "steps"}
        assert [set(step) for step in entry["steps"]] == [SCORES | {"step"}] * 3
        actual = table["close"].iloc[-3:].tolist()
        errors = [abs(row["close"] - close) / close for row, close in zip(found["forecast"], actual, strict=False)]
        assert [step["mape"] for step in entry["steps"]] == pytest.approx([100 * error for error in errors])
        text = until(lambda: client.get("/metrics").text, lambda text: "pregao_live_mape_ratio{" in text)
    [shown] = re.findall(r'pregao_live_mape_ratio\{model="SHARED",stock="VALE3"\} (\S+)', text)
    assert float(shown) == pytest.approx(entry["mape"] / 100)
    assert "pregao_forecasts_waiting 0.0" in text


def test_scores_are_computed_in_a_thread_and_only_after_something_was_settled(home, monkeypatch):
    """They took 2.5 s of the event loop at each look, after a year of weekly trainings."""
    computed, accuracy = [], forecast_log_service.accuracy

    def counted(sums):
        computed.append(threading.current_thread().name)
        return accuracy(sums)

    async def prices_of(symbol, price):
        return table(50.0, 51.0)

    async def watch():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.watch(prices_of), 1)
        before = len(computed)
        await service.accuracy(None)
        return before, computed[-1]

    monkeypatch.setattr(forecast_log_service, "accuracy", counted)
    monitoring = Monitoring()
    service = ForecastLogService(0.02, monitoring)
    service.writer.log.add([record(closes=[50.0])])
    assert asyncio.run(watch()) == (1, "accuracy_0")
    service.close()
    assert 'pregao_live_mape_ratio{model="VALE3",stock="VALE3"}' in monitoring.text().decode()
