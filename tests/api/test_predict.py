import pandas as pd
import pytest

from pregao.api.schemas import CLOSES
from tests.api.conftest import training


def closes(folder):
    return pd.read_csv(folder / "VALE3.csv")["close"].tolist()


def test_a_stock_is_forecast_with_every_promised_field(client):
    answer = client.post("/predict", json={"stock": "VALE3"})
    assert answer.status_code == 200
    told = answer.json()
    fields = {"stock", "preco", "prediction", "forecast", "as_of", "stale", "recorded", "source", "model", "drift"}
    assert fields <= set(told)
    assert [row["step"] for row in told["forecast"]] == list(range(1, 11))
    names = {"date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"}
    assert all(set(row) == names for row in told["forecast"])
    assert told["forecast"][0]["date"] == "2025-01-02"
    assert told["as_of"] == "2024-12-30"
    assert told["recorded"] is True
    assert told["source"] == {"name": "csv", "reasons": []}
    assert set(told["drift"]) == {"score", "warning"}
    assert told["drift"]["score"] > 0
    assert {"stock", "version", "run_id", "trained_at", "skill_mape"} == set(told["model"])


def test_preco_is_a_text_of_ten_prices(client):
    told = client.post("/predict", json={"stock": "VALE3"}).json()
    assert isinstance(told["preco"], str)
    prices = [float(price) for price in told["preco"].strip("[]").split(", ")]
    assert prices == pytest.approx([row["close"] for row in told["forecast"]], abs=0.005)
    assert told["prediction"] == told["forecast"][0]["close"]


@pytest.mark.parametrize("spelling", ["VALE3", "vale3", "VALE3.SA", " vale3.sa "])
def test_every_spelling_is_the_same_stock(client, spelling):
    assert client.post("/predict", json={"stock": spelling}).json()["stock"] == "VALE3"


def test_given_closes_are_forecast_as_the_stocks_own(client, folder_of_prices):
    by_stock = client.post("/predict", json={"stock": "VALE3"}).json()
    for body in ({}, {"stock": "VALE3"}):
        told = client.post("/predict", json={"historical_data": closes(folder_of_prices), **body}).json()
        assert [row["close"] for row in told["forecast"]] == [row["close"] for row in by_stock["forecast"]]
        assert told["stock"] == "VALE3"
        assert (told["as_of"], told["source"], told["recorded"]) == (None, None, None)
        assert {row["date"] for row in told["forecast"]} == {None}


def test_only_the_last_thousand_returns_count(client):
    closes = [50 + n % 7 + n % 3 / 10 for n in range(1001)]
    short = client.post("/predict", json={"historical_data": closes}).json()
    long = client.post("/predict", json={"historical_data": [1, 2.5, *closes]}).json()
    assert short["forecast"] == long["forecast"]


def test_more_closes_tell_more_of_the_volatility(client):
    wild = [50.0, 60.0] * 100
    widths = []
    for past in ([], wild):
        row = client.post("/predict", json={"historical_data": [*past, *CLOSES]}).json()["forecast"][0]
        widths.append(row["upper_90"] / row["lower_90"] - 1)
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("stock", ["ITUB4", "SHRT3"])
def test_the_shared_model_answers_for_a_stock_without_a_model(client, stock):
    told = client.post("/predict", json={"stock": stock}).json()
    assert (told["stock"], told["model"]["stock"], told["as_of"]) == (stock, "SHARED", "2024-12-30")
    assert len(told["forecast"]) == 10
    told = client.post("/predict", json={"stock": stock, "historical_data": CLOSES}).json()
    assert (told["stock"], told["model"]["stock"]) == (stock, "SHARED")


def test_a_stock_that_the_source_does_not_know_is_not_found(client):
    answer = client.post("/predict", json={"stock": "XPTO3"})
    assert answer.status_code == 404
    assert "knows no such stock" in answer.json()["detail"]


@pytest.mark.slow
def test_new_prices_are_picked_up_after_a_while_and_not_before(start, tmp_path, folder_of_prices):
    prices = tmp_path / "own"
    prices.mkdir()
    table = pd.read_csv(folder_of_prices / "VALE3.csv")
    table.iloc[:-1].to_csv(prices / "VALE3.csv", index=False)
    server = start(f"source.path={prices}", "retry=2")
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["as_of"] == "2024-12-27"
    table.to_csv(prices / "VALE3.csv", index=False)
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["as_of"] == "2024-12-27"
    found = server.until_predicted("VALE3", lambda told: told["as_of"] == "2024-12-30")
    assert found["stale"] is False


@pytest.mark.slow
def test_prices_that_cannot_be_had_any_more_are_said_to_be_stale(start, tmp_path, folder_of_prices):
    prices = tmp_path / "own"
    prices.mkdir()
    (prices / "VALE3.csv").write_bytes((folder_of_prices / "VALE3.csv").read_bytes())
    server = start(f"source.path={prices}", "retry=1")
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["stale"] is False
    (prices / "VALE3.csv").unlink()
    found = server.until_predicted("VALE3", lambda told: told["stale"])
    assert found["as_of"] == "2024-12-30"
    (reason,) = found["source"]["reasons"]
    assert "VALE3: csv knows no such stock" in reason
    assert str(tmp_path) not in reason


@pytest.mark.slow
def test_a_training_serves_a_stock_that_had_no_model_of_its_own(start):
    server = start()
    for _ in range(2):  # the second answer is a remembered one
        told = server.client.post("/predict", json={"stock": "PETR4"}).json()
        assert told["model"]["stock"] == "SHARED"
    assert server.client.post("/train", json=training("PETR4")).status_code == 200
    told = server.client.post("/predict", json={"stock": "PETR4"}).json()
    assert told["model"]["stock"] == "PETR4"
    assert "PETR4" in [model["stock"] for model in server.client.get("/models").json()["models"]]
