import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from pregao.api.schemas import CLOSES
from pregao.forecasting.compose import forecast_stock
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from tests.api.conftest import client_of
from tests.conftest import prices_in
from tests.forecasting.conftest import register
from tests.models.test_trained import trained_model


def predict(client, **body):
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_forecast_has_every_promised_field(client):
    found = predict(client, stock=" vale3.SA ")
    fields = {"stock", "preco", "prediction", "forecast", "as_of", "stale", "recorded", "source", "closes", "model"}
    assert fields | {"drift"} <= set(found)
    assert [row["step"] for row in found["forecast"]] == list(range(1, 11))
    names = {"date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"}
    assert all(set(row) == names for row in found["forecast"])
    assert {"stock", "version", "run_id", "trained_at", "skill_mape"} == set(found["model"])
    assert (found["stock"], found["recorded"], found["source"]) == ("VALE3", True, {"name": "csv", "reasons": []})
    assert found["drift"]["score"] > 0
    assert isinstance(found["preco"], str)
    prices = [float(price) for price in found["preco"].strip("[]").split(", ")]
    assert prices == pytest.approx([row["close"] for row in found["forecast"]], abs=0.005)
    by_closes = predict(client, historical_data=CLOSES)
    assert (by_closes["stock"], by_closes["model"]["stock"], by_closes["as_of"]) == ("VALE3", "VALE3", None)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"stock": null}', b'{"historical_data": null}'])
def test_a_request_without_a_stock_means_the_configured_one(client, body):
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["stock"]) == (200, "VALE3")
    assert answer.json()["as_of"]


@pytest.mark.parametrize("name", ["stock", "ticker", "symbol"])
@pytest.mark.parametrize("ticker", ["PETR4", "PETR4.SA"])
def test_old_names_of_a_stock_are_accepted(client, name, ticker):
    assert predict(client, **{name: ticker})["stock"] == "PETR4"


@pytest.mark.parametrize("name", ["last_60_days", "last_prices", "values", "closes", "prices"])
def test_old_names_of_closes_are_accepted(client, name):
    closes = [*CLOSES, *CLOSES, *CLOSES]
    assert predict(client, **{name: closes}) == predict(client, historical_data=closes)
    assert predict(client, ticker="WEGE3.SA", **{name: CLOSES})["stock"] == "WEGE3"


def test_a_head_request_is_answered_as_get_without_a_body(client):
    for path in ("/health", "/models", "/statistics", "/accuracy", "/docs", "/openapi.json", "/metrics", "/info"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
    assert client.head("/predict").status_code == 405


def test_the_documentation_page_loads_nothing_from_another_host(client):
    page = client.get("/docs").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"} <= set(files)
    assert all(file.startswith("/docs/") for file in files)
    assert "swagger-ui" in page
    for file in files:
        assert len(client.get(file).content) > 1000


def test_a_live_server_says_so_before_its_models_are_loaded(client, monkeypatch):
    assert client.get("/health/ready").json() == client.get("/health").json()
    monkeypatch.setattr(client.service.forecasts, "ready", False)
    statuses = [client.get(f"/health{path}").status_code for path in ("", "/ready", "/live")]
    assert statuses == [503, 503, 200]


def test_closes_of_a_named_stock_are_answered_as_its_latest_closes_are(client, folder_of_prices):
    closes = pd.read_csv(folder_of_prices / "PETR4.csv")["close"].tail(20).tolist()
    by_stock = predict(client, stock="PETR4")
    named, alone = predict(client, stock="PETR4", historical_data=closes), predict(client, historical_data=closes)
    assert [row["upper_90"] for row in named["forecast"]] == pytest.approx(
        [row["upper_90"] for row in by_stock["forecast"]], rel=1e-6
    )
    assert (by_stock["closes"], named["closes"]["history"], alone["closes"]["history"]) == (None, True, False)
    unknown = predict(client, stock="WEGE3", historical_data=closes)
    assert (unknown["closes"]["history"], unknown["closes"]["used"]) == (False, 20)


def test_models_and_runs_are_listed_with_their_metrics(client):
    models = {model["stock"]: model for model in client.get("/models").json()["models"]}
    assert {"stock", "version", "run_id", "metrics", "trained_at"} <= set(models["VALE3"])
    assert models["VALE3"]["metrics"]["final_mape"] > 0
    health = client.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["problems"]) == (200, "ok", [])
    assert set(health.json()["stocks"]) == set(models) >= {"VALE3", "SHARED"}
    assert client.get("/statistics?limit=1").json()["next_page_token"]
    [shared] = client.get("/statistics?stock=SHARED").json()["experiments"]
    assert (shared["name"], len(shared["runs"])) == ("SHARED", 1)


def test_the_documentation_has_working_examples_and_every_field(client):
    documented = client.get("/openapi.json").json()
    for path, status in (("/predict", 200), ("/train?wait=false", 202)):
        content = documented["paths"][path.partition("?")[0]]["post"]["requestBody"]["content"]
        for example in content["application/json"]["examples"].values():
            answer = client.post(path, json=example["value"])
            assert answer.status_code == status
            if status == 202:
                client.delete(answer.json()["status_url"])
    for name, fields in (
        ("Predict", {"stock", "historical_data", "version"}),
        ("Train", {"stock", "inicio", "fim", "overrides"}),
    ):
        assert set(documented["components"]["schemas"][f"{name}Request"]["properties"]) == fields
    assert client.get("/info").json()["versions"]["litserve"]
    operations = [operation for path in documented["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert {"predict", "train", "cancel", "models", "statistics"} <= set(ids)
    assert not any("security" in operation for operation in operations), "the server has no key"
    schemas = documented["components"]["schemas"]
    assert schemas["TrainRequest"]["properties"]["inicio"]["format"] == "date"
    assert schemas["ServedModel" if "ServedModel" in schemas else "ModelEntry"]["properties"]["trained_at"]["format"]


@pytest.fixture
def stocks(tmp_path):
    return prices_in(tmp_path / "stocks", "PETR4")


def test_a_cached_answer_is_used_until_another_model_is_served(shared, stocks, tmp_path):
    with client_of(stocks) as client:
        cached = client.service.forecasts.cached_answer
        first = predict(client, stock="PETR4")
        assert json.loads(cached("PETR4")) == first == predict(client, stock="PETR4")
        better = register(TrainedModel.load(shared), tmp_path)
        assert cached("PETR4") is not None, "it is registered, and not served yet"
        registry.set_champion(Symbol.parse("SHARED"), better)
        assert cached("PETR4") is None
        assert predict(client, stock="PETR4")["model"]["version"] == 2
        own = replace(trained_model(), card=replace(trained_model().card, stock="PETR4"))
        registry.set_champion(Symbol.parse("PETR4"), register(own, tmp_path / "own"))
        found = predict(client, stock="petr4.sa")
    assert (found["model"]["stock"], found["model"]["version"]) == ("PETR4", 1)
    assert found["forecast"] != first["forecast"]


@pytest.fixture
def clock(monkeypatch):
    """The time of the app, `ahead` seconds from now."""
    found = SimpleNamespace(ahead=0.0)
    found.time = lambda: time.time() + found.ahead
    for module in ("forecasts", "price_cache"):
        monkeypatch.setattr(f"pregao.api.{module}.time", found)
    return found


def test_new_prices_are_used_after_the_time_of_a_retry_and_missing_ones_are_reported(shared, stocks, clock):
    file = stocks / "PETR4.csv"
    table = pd.read_csv(file)
    table.iloc[:-1].to_csv(file, index=False)
    with client_of(stocks, "retry=300") as client:
        before = predict(client, stock="PETR4")
        table.to_csv(file, index=False)
        assert predict(client, stock="PETR4") == before
        clock.ahead = 301
        after = predict(client, stock="PETR4")
        expected = forecast_stock("PETR4", "csv", stocks).as_json()["forecast"]
        assert (after["as_of"], after["stale"], after["forecast"]) == ("2024-12-30", True, expected)
        file.unlink()
        clock.ahead = 602
        stale = predict(client, stock="PETR4")
    assert (stale["as_of"], stale["stale"], stale["forecast"]) == ("2024-12-30", True, after["forecast"])
    [reason] = stale["source"]["reasons"]
    assert "PETR4: csv knows no such stock" in reason
    assert str(stocks) not in reason
