import pandas as pd
import pytest

from pregao.dashboard.sentences import SENTENCES, SUMMARIES
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.compose import forecast_stock
from pregao.forecasting.writer import ForecastWriter
from pregao.tracking import registry
from pregao.tracking.run_table import Page, table
from tests.dashboard.conftest import CHARTS, chart_data, metrics, text_of


def test_the_newest_run_is_shown_with_its_metrics_and_the_step_of_the_slider(open_page, with_runs, vale3):
    app, newest = open_page("performance"), table(Page(vale3)).iloc[0]
    assert metrics(app)["MAPE"] == f"{newest['final_mape']:.3f} %"
    assert metrics(app)["Inside the 90 % band"] == f"{newest['coverage_90']:.1f} %"
    files = with_runs / "outputs/VALE3/1"
    steps, forecasts = pd.read_csv(files / "steps.csv"), pd.read_csv(files / "evaluation.csv")
    for step in (1, 10):
        app.slider(key="step").set_value(step).run()
        shown, expected = app.dataframe[0].value, steps[steps["step"] == step]
        assert shown["forecaster"].tolist() == expected["forecaster"].tolist()
        points = forecasts.loc[forecasts["step"] == step, "y_hat"].tolist()
        assert any(points == pytest.approx(data["y_hat"].tolist()) for data in chart_data(app) if "y_hat" in data)
    assert len(app.get(CHARTS)) == 5


def test_the_served_model_needs_prices_after_its_validation_part(open_page, with_runs, tmp_path, stocks, vale3):
    prices = pd.read_csv(stocks / "VALE3.csv")
    known = prices[prices["date"] <= registry.champion(vale3).model.card.validation_end]
    for available, charts in ((prices, 5), (known, 0)):
        available.to_csv(tmp_path / "VALE3.csv", index=False)
        app = open_page("performance", folder=tmp_path, language="pt")
        app.selectbox(key="first VALE3").set_value(app.selectbox(key="first VALE3").options[-1]).run()
        assert len(app.get(CHARTS)) == charts
    assert SUMMARIES["TooFewSessions"] in text_of(app)


def test_past_forecasts_are_shown_with_the_accuracy_of_the_package(open_page, log, stocks, tmp_path):
    prices = pd.read_csv(stocks / "VALE3.csv")
    for missing in (6, 3, 0):
        prices.iloc[: len(prices) - missing].to_csv(tmp_path / "VALE3.csv", index=False)
        forecast_stock("VALE3", "csv", tmp_path, ForecastWriter())
    [expected] = accuracy(log.outcomes("VALE3"))
    app = open_page("performance")
    versions, steps = (table.value for table in app.dataframe[-2:])
    assert versions["version"].tolist() == [f"VALE3 · {expected['version']}"]
    for name in ("n", "rmse", "mape", "skill_mape", "coverage_90"):
        assert versions[name].tolist() == [expected[name]]
        assert steps[name].tolist() == [step[name] for step in expected["steps"]]


def test_without_evaluated_forecasts_or_a_forecast_log_the_rest_of_the_page_is_shown(open_page, log, monkeypatch):
    open_page("forecast")
    assert SENTENCES["past.nothing"][1].format(stock="VALE3") in text_of(open_page("performance"))
    monkeypatch.setenv("PREGAO_FORECASTS_URI", "postgresql://unknown@127.0.0.1:1/nothing")
    app = open_page("performance", language="pt")
    assert SUMMARIES["ForecastsUnavailable"] in text_of(app)
    assert len(app.get(CHARTS)) == 5
