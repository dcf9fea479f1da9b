import re
import shutil
import sqlite3
import time

import pandas as pd
import pytest

from pregao.api.schemas import CLOSES

SCORES = {"n", "rmse", "mape", "naive_rmse", "naive_mape", "skill_rmse", "skill_mape", "coverage_80", "coverage_90"}


def logged(server):
    with sqlite3.connect(f"file:{server.home}/outputs/forecasts.db?mode=ro", uri=True) as connection:
        found = connection.execute(
            "SELECT stock, model, version, as_of, step, close FROM forecasts ORDER BY 1, 2, 3, 4, 5"
        )
        return found.fetchall()


def until_scored(server, stock, n, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entries = server.client.get(f"/accuracy?stock={stock}").json()["accuracy"]
        if sum(entry["n"] for entry in entries) >= n:
            return entries
        time.sleep(0.2)
    raise AssertionError(entries)


def test_a_forecast_is_in_the_log_before_it_is_told(client, server):
    told = client.post("/predict", json={"stock": "VALE3"}).json()
    mine = [row for row in logged(server) if row[:4] == ("VALE3", "VALE3", told["model"]["version"], told["as_of"])]
    assert [row[5] for row in mine] == [row["close"] for row in told["forecast"]]


def test_given_closes_are_not_kept(client, server):
    client.post("/predict", json={"stock": "VALE3"})
    before = logged(server)
    client.post("/predict", json={"stock": "VALE3", "historical_data": CLOSES})
    assert logged(server) == before


def test_accuracy_is_refused_for_what_is_no_stock_and_empty_for_a_stock_without_forecasts(client):
    assert client.get("/accuracy?stock=../x").status_code == 422
    assert client.get("/accuracy?stock=ABEV3").json() == {"accuracy": [], "waiting": 0}


@pytest.mark.slow
def test_a_forecast_is_scored_when_its_closes_have_come(start, folder_of_prices, tmp_path):
    prices = tmp_path / "own"
    prices.mkdir()
    table = pd.read_csv(folder_of_prices / "VALE3.csv")
    table.iloc[:-3].to_csv(prices / "VALE3.csv", index=False)
    server = start(f"source.path={prices}", "retry=1")
    told = server.client.post("/predict", json={"stock": "VALE3"}).json()
    assert server.client.get("/accuracy").json()["accuracy"] == []
    table.to_csv(prices / "VALE3.csv", index=False)
    [entry] = until_scored(server, "VALE3", 3)
    assert set(entry) == SCORES | {"stock", "model", "version", "first", "last", "steps"}
    assert [set(step) for step in entry["steps"]] == [SCORES | {"step"}] * 3
    came = table["close"].iloc[-3:].tolist()
    errors = [abs(row["close"] - close) / close for row, close in zip(told["forecast"], came, strict=False)]
    assert entry["mape"] == pytest.approx(100 * sum(errors) / 3)
    assert [step["mape"] for step in entry["steps"]] == pytest.approx([100 * error for error in errors])
    text = server.client.get("/metrics").text
    shown = re.findall(r'pregao_live_mape_ratio\{model="VALE3",stock="VALE3"\} (\S+)', text)
    assert float(shown[0]) == pytest.approx(entry["mape"] / 100)
    assert "pregao_forecasts_waiting 0.0" in text


@pytest.mark.slow
def test_a_log_that_is_lost_is_begun_again_with_the_latest_forecasts(start):
    server = start()
    server.client.post("/predict", json={"stock": "VALE3"})
    before = logged(server)
    assert len(before) == 10
    shutil.rmtree(server.home / "outputs")
    end = time.monotonic() + 20
    while not (server.home / "outputs/forecasts.db").exists() or logged(server) != before:
        assert time.monotonic() < end
        time.sleep(0.2)
