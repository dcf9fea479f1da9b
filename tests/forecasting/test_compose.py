import json
from datetime import date, timedelta

import pandas as pd
import pytest

from pregao.dashboard.sentences import SENTENCES
from pregao.errors import InvalidCloses, NoModel, UnknownStock
from pregao.forecasting.compose import OF_BARE_CLOSES, forecast_closes, forecast_stock
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.prices.calendar import last_finished_session, sessions
from pregao.quantiles import MEDIAN, bands
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry
from tests.conftest import random_walk, trained, with_ranges
from tests.forecasting.conftest import register
from tests.models.test_trained import trained_model


@pytest.fixture(scope="module")
def served(tmp_path_factory, empty_database):
    """The folder of the prices and the run of VALE3, which is served."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        home = trained(folder, empty_database, patch, "VALE3")
        (home / "data").mkdir()
        random_walk().to_csv(home / "data/VALE3.csv", index=False)
        yield folder


def test_a_stock_is_forecast_from_its_latest_closes_as_its_training_wrote(served):
    forecast = forecast_stock("vale3.sa", "csv", served)
    written = pd.read_csv(settings().outputs / "VALE3/1/forecast.csv")
    assert forecast.table["close"].to_numpy() == pytest.approx(written["close"].to_numpy(), abs=1e-6)
    answer = json.loads(json.dumps(forecast.as_json()))
    assert answer["prediction"] == answer["forecast"][0]["close"]
    assert (answer["stock"], answer["as_of"], answer["stale"]) == ("VALE3", "2024-12-30", True)
    assert answer["forecast"][0]["date"] == "2025-01-02"
    assert answer["source"] == {"name": "csv", "reasons": []}
    assert forecast.record.last_close == random_walk()["close"].iloc[-1]
    assert forecast.record.key == ("VALE3", "VALE3", 1, date(2024, 12, 30))


@pytest.mark.parametrize(("age", "warned"), [(0, False), (5, False), (6, True), (40, True)])
def test_closes_older_than_five_sessions_get_a_warning_whatever_their_source(served, tmp_path, age, warned):
    last = last_finished_session("BVMF")
    day = sessions("BVMF", last - timedelta(days=100), last)[-1 - age].date()
    random_walk(60, last=str(day)).to_csv(tmp_path / "VALE3.csv", index=False)
    answer = forecast_stock("VALE3", "csv", tmp_path).as_json()
    assert answer["age"] == age
    assert bool(answer["warning"]) == warned
    assert not warned or f"is of {day}, {age} sessions before the last finished one (source: csv)" in answer["warning"]
    assert (answer["range"]["end"], answer["range"]["closes"]) == (str(day), 60)
    closes = random_walk(60)["close"].tolist()
    given = forecast_closes(closes, "VALE3").as_json()
    assert [given[name] for name in ("age", "warning", "range")] == [None] * 3


def test_the_closes_of_a_named_stock_get_the_volatilities_and_width_of_its_history(served, tmp_path):
    closes = pd.read_csv(served / "VALE3.csv")["close"].tolist()[-20:]
    alone, named = forecast_closes(closes, "VALE3"), forecast_closes(closes, "VALE3", "csv", served)
    by_stock = forecast_stock("VALE3", "csv", served)
    columns = ["close", "lower_90", "upper_90"]
    assert named.table[columns].to_numpy() == pytest.approx(by_stock.table[columns].to_numpy(), rel=1e-6)
    assert alone.table["upper_90"].tolist() != named.table["upper_90"].tolist()
    assert (named.closes.history, alone.closes.history, alone.closes.used) == (True, False, 20)
    assert alone.as_json()["closes"]["note"] == f"20 closes alone give the volatilities. {OF_BARE_CLOSES}"
    assert by_stock.as_json()["closes"] is None
    missing = forecast_closes(closes, "VALE3", "csv", tmp_path)
    assert missing.table["upper_90"].tolist() == alone.table["upper_90"].tolist()


def test_all_given_closes_count_up_to_the_span_of_the_volatilities(served):
    closes = pd.read_csv(served / "VALE3.csv")["close"].tolist()
    forecast = forecast_closes([*closes, *closes, *closes], "VALE3")
    assert (forecast.closes.used, forecast.closes.history) == (1001, False)
    assert forecast.closes.note.startswith("1001 closes alone")


def test_the_note_on_bare_closes_has_the_figures_of_their_benchmark():
    lines = (REPOSITORY / "benchmarks/bare_closes.md").read_text().splitlines()
    _, given, _, inside, ranges, saved = zip(*(line.strip("| ").split(" | ") for line in lines[4:7]), strict=True)
    by_stock = [float(end) for cell in ranges for end in cell.split("–")]
    for first, second, third in (inside, given):
        assert f"{first}, {second} and {third}" in OF_BARE_CLOSES
    assert f"{min(by_stock):.0f} to {max(by_stock):.0f} % by stock" in OF_BARE_CLOSES
    assert all(float(cell.split()[0]) > 0 for cell in saved), "the note says: not above EWMA's"
    portuguese, english = SENTENCES["closes.alone"]
    assert all(figure in english and figure.replace(".", ",") in portuguese for figure in inside)


def test_closes_without_a_finite_forecast_are_refused(served):
    with pytest.raises(InvalidCloses, match="not a finite positive price"):
        forecast_closes([1.7e308] * 20, "VALE3")


def test_a_forecast_needs_as_many_closes_as_the_lookback(served, tmp_path):
    random_walk(20).to_csv(tmp_path / "VALE3.csv", index=False)
    assert len(forecast_stock("VALE3", "csv", tmp_path).rows) == 10
    random_walk(19).to_csv(tmp_path / "VALE3.csv", index=False)
    with pytest.raises(InvalidCloses, match="19 closes up to 2024-12-30, and 20 are needed"):
        forecast_stock("VALE3", "csv", tmp_path)


def test_for_a_stock_without_a_model_the_error_names_the_stocks_with_one(served):
    with pytest.raises(NoModel, match=r"PETR4.* VALE3\. Train one: .*stock=PETR4"):
        forecast_stock("PETR4", "csv", served)


@pytest.fixture
def many(tmp_path):
    """A folder with two stocks without a model: a long history with daily ranges, and a short one."""
    with_ranges(random_walk(2400, seed=9)).to_csv(tmp_path / "WEGE3.csv", index=False)
    random_walk(60, seed=8).to_csv(tmp_path / "SHRT3.csv", index=False)
    return tmp_path


def test_the_shared_model_forecasts_a_stock_without_a_model(shared, many, vale3):
    by_stock = forecast_stock("WEGE3", "csv", many)
    by_closes = forecast_closes(pd.read_csv(many / "WEGE3.csv")["close"].tolist(), "WEGE3")
    for forecast in (by_stock, by_closes, forecast_stock("SHRT3", "csv", many)):
        assert (forecast.served.stock, forecast.symbol.ticker != "SHARED", len(forecast.rows)) == ("SHARED", True, 10)
    registry.set_champion(vale3, register(trained_model(), many))
    assert forecast_closes([50.0, 51.0] * 10, "VALE3").served.stock == "VALE3"
    with pytest.raises(UnknownStock, match="It is the model of many stocks"):
        forecast_stock("SHARED", "csv", many)


def test_a_forecast_is_the_last_historical_one(shared, many):
    model = TrainedModel.load(shared)
    table = pd.read_csv(many / "WEGE3.csv", parse_dates=["date"])
    rolling = rolling_forecasts(model, table, model.card.validation_start)
    rows = pd.DataFrame(model.rows(rolling.last))
    found = forecast_stock("WEGE3", "csv", many).table
    for name, values in {"close": rolling.quantiles[-1, :, MEDIAN], **bands(rolling.quantiles[-1])}.items():
        assert found[name].tolist() == pytest.approx(rows[name].tolist(), rel=1e-7)  # by ONNX Runtime
        # Many windows in one batch: the network's float32 sums are taken in another order.
        assert found[name].to_numpy() == pytest.approx(values, rel=1e-7)
    table[["date", "close"]].to_csv(many / "WEGE3.csv", index=False)
    without_ranges = forecast_stock("WEGE3", "csv", many).table
    assert (without_ranges["close"] != found["close"]).any()
