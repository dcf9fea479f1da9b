import re

import pandas as pd
import pytest

from pregao.api.schemas import CLOSES
from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from tests.api.conftest import POLL, client_of, until
from tests.forecasting.conftest import rows

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
