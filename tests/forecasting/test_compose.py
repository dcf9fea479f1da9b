import json
from datetime import date

import pandas as pd
import pytest

from pregao.errors import InvalidCloses, NoModel, PricesUnavailable, UnknownStock
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.prices.sources.yahoo import YahooSource
from pregao.quantiles import MEDIAN, bands
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config, with_ranges


@pytest.fixture
def served(home, prices):
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    return Pipeline(small_config(prices), folder).run()


def test_a_stock_is_forecast_from_its_latest_closes(served, prices):
    forecast = forecast_stock("vale3.sa", "csv", prices)
    assert forecast.as_of == date(2024, 12, 30)
    assert forecast.table["date"].iloc[0] == date(2025, 1, 2)
    written = pd.read_csv(served.folder / "forecast.csv")
    assert forecast.table["close"].to_numpy() == pytest.approx(written["close"].to_numpy(), abs=1e-6)


def test_given_closes_are_forecast_as_the_stocks_own(served, prices):
    closes = pd.read_csv(prices / "VALE3.csv")["close"].tolist()
    by_closes, by_stock = forecast_closes(closes, "VALE3"), forecast_stock("VALE3", "csv", prices)
    assert by_closes.table["close"].tolist() == by_stock.table["close"].tolist()
    assert by_closes.as_of is None
    assert by_closes.table["date"].isna().all()


def test_json_has_the_names_of_the_api(served, prices):
    answer = json.loads(json.dumps(forecast_stock("VALE3", "csv", prices).as_json()))
    assert {"stock", "prediction", "forecast", "as_of", "stale", "model"} <= set(answer)
    assert set(answer["forecast"][0]) == {"date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"}
    assert answer["prediction"] == answer["forecast"][0]["close"]
    assert set(answer["model"]) == {"stock", "version", "run_id", "trained_at", "skill_mape"}
    assert answer["forecast"][0]["date"] == "2025-01-02"


def test_json_says_where_the_prices_came_from_and_why_from_there(served, home, monkeypatch):
    def offline(*_):
        raise PricesUnavailable("VALE3", ["yahoo: no network"], "Try again.")

    (home / "data").mkdir()
    random_walk().to_csv(home / "data/VALE3.csv", index=False)
    monkeypatch.setattr(YahooSource, "history", offline)
    answer = forecast_stock("VALE3").as_json()
    assert answer["source"] == {
        "name": "cache",
        "reasons": [
            "cache: it ends on 2024-12-30, and later sessions are over",
            "yahoo: no network",
            "b3: nothing downloaded yet (source=b3 does it)",
        ],
    }


def test_bare_closes_have_no_dates_in_json(served):
    answer = forecast_closes(random_walk(30)["close"].tolist(), "VALE3").as_json()
    assert (answer["as_of"], answer["source"]) == (None, None)
    assert [row["date"] for row in answer["forecast"]] == [None] * 10


def test_closes_that_lead_nowhere_are_refused(served):
    with pytest.raises(InvalidCloses, match="too far apart"):
        forecast_closes([1e-300, 1e300] * 10, "VALE3")


def test_a_history_shorter_than_the_lookback_is_refused(served, tmp_path):
    random_walk(15).to_csv(tmp_path / "VALE3.csv", index=False)
    with pytest.raises(InvalidCloses, match="15 closes up to 2024-12-30, and 20 are needed"):
        forecast_stock("VALE3", "csv", tmp_path)


def test_a_stock_without_a_model_is_told_who_has_one(served, prices):
    with pytest.raises(
        NoModel, match=r"PETR4: no trained model; there are models for VALE3\. Train one: .*stock=PETR4"
    ):
        forecast_stock("PETR4", "csv", prices)


@pytest.fixture
def many(tmp_path):
    """A folder with a stock that has no model, its daily ranges too."""
    folder = tmp_path / "many"
    folder.mkdir()
    with_ranges(random_walk(seed=9)).to_csv(folder / "WEGE3.csv", index=False)
    random_walk(60, seed=8).to_csv(folder / "SHRT3.csv", index=False)
    return folder


def test_the_shared_model_answers_for_a_stock_without_a_model(shared, many):
    by_stock = forecast_stock("WEGE3", "csv", many)
    assert (by_stock.symbol.ticker, by_stock.served.stock) == ("WEGE3", "SHARED")
    assert by_stock.as_json()["model"]["stock"] == "SHARED"
    assert by_stock.as_of == date(2024, 12, 30)
    by_closes = forecast_closes(pd.read_csv(many / "WEGE3.csv")["close"].tolist(), "WEGE3")
    assert (by_closes.symbol.ticker, by_closes.served.stock) == ("WEGE3", "SHARED")
    assert len(forecast_stock("SHRT3", "csv", many).rows) == 10


def test_a_forecast_is_the_last_of_the_rolling_ones(shared, many):
    model = TrainedModel.load(shared)
    table = pd.read_csv(many / "WEGE3.csv", parse_dates=["date"])
    rolling = rolling_forecasts(model, table, model.card.validation_start)
    assert rolling.widths[-1] != 1
    rows = pd.DataFrame(model.rows(rolling.last))
    expected = {"close": rolling.quantiles[-1, :, MEDIAN], **bands(rolling.quantiles[-1])}
    found = forecast_stock("WEGE3", "csv", many).table
    for name, values in expected.items():
        assert found[name].tolist() == rows[name].tolist()
        # Many windows in one batch: the network's float32 sums are taken in another order.
        assert found[name].to_numpy() == pytest.approx(values, rel=1e-9)


def test_more_than_the_closes_is_seen_where_the_source_has_it(shared, many):
    by_stock = forecast_stock("WEGE3", "csv", many).table
    pd.read_csv(many / "WEGE3.csv")[["date", "close"]].to_csv(many / "WEGE3.csv", index=False)
    assert (forecast_stock("WEGE3", "csv", many).table["close"] != by_stock["close"]).any()


def test_a_stocks_own_model_goes_before_the_shared_one(served, shared, prices):
    assert forecast_stock("VALE3", "csv", prices).served.stock == "VALE3"
    assert forecast_closes(random_walk(30)["close"].tolist(), "VALE3").served.stock == "VALE3"


def test_the_shared_model_has_no_prices_of_its_own(shared, many):
    with pytest.raises(UnknownStock, match=r"SHARED: csv knows no such stock .*It is the model of many stocks"):
        forecast_stock("SHARED", "csv", many)
