import pandas as pd
import pytest

from pregao.evaluation.report import NAIVE
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.compose import forecast_stock
from pregao.forecasting.writer import ForecastWriter
from pregao.prices.symbols import Symbol
from pregao.tracking import registry, runs
from pregao.tracking.run_table import Page, table
from tests.dashboard.conftest import metrics, text_of
from tests.dashboard.test_prices import CHARTS


def test_a_run_is_shown_as_it_was_judged(open_page, with_runs, vale3):
    newest = table(Page(vale3)).iloc[0]
    shown = metrics(open_page("performance"))
    assert shown["MAPE"] == f"{newest['final_mape']:.3f} %"
    assert shown["Last close's MAPE"] == f"{newest['naive_mape']:.3f} %"
    assert shown["Inside the 90 % band"] == f"{newest['coverage_90']:.1f} %"


def test_the_slider_turns_to_another_step(open_page, with_runs):
    app = open_page("performance")
    steps = pd.read_csv(next((with_runs / "outputs/VALE3/1").glob("steps.csv")))
    for step in (1, 10):
        app.slider(key="step").set_value(step).run()
        shown = app.dataframe[0].value.set_index("forecaster")["mape"]
        expected = steps[steps["step"] == step].set_index("forecaster")["mape"]
        assert shown["model"] == pytest.approx(expected["model"])
        assert shown[NAIVE] == pytest.approx(expected[NAIVE])
    assert len(app.get(CHARTS)) == 5


def test_two_runs_are_shown_side_by_side(open_page, with_runs, vale3):
    app = open_page("performance")
    other = app.selectbox(key="second VALE3").options[1]
    app.selectbox(key="second VALE3").set_value(other).run()
    both = app.dataframe[0].value
    assert both["forecaster"].tolist() == ["model", NAIVE] * 2
    mapes = table(Page(vale3))["final_mape"].tolist()
    assert both["mape"].iloc[[0, 2]].tolist() == pytest.approx(mapes, abs=1e-5)


def test_the_served_model_is_judged_on_what_came_since(open_page, with_runs):
    app = open_page("performance")
    app.selectbox(key="first VALE3").set_value(app.selectbox(key="first VALE3").options[-1]).run()
    assert float(metrics(app)["MAPE"].split()[0]) > 0
    assert len(app.get(CHARTS)) == 5


def test_a_model_that_nothing_has_come_for_says_so(open_page, with_runs, tmp_path, stocks):
    end = registry.champion(Symbol.parse("VALE3")).model.card.validation_end
    short = pd.read_csv(stocks / "VALE3.csv")
    short[short["date"] <= end].to_csv(tmp_path / "VALE3.csv", index=False)
    app = open_page("performance", "source=csv", f"source.path={tmp_path}")
    app.selectbox(key="first VALE3").set_value(app.selectbox(key="first VALE3").options[-1]).run()
    assert "to judge a model that has seen closes until" in text_of(app)


def test_forecasts_that_were_told_are_shown_as_the_package_scores_them(open_page, log, stocks, tmp_path):
    whole = pd.read_csv(stocks / "VALE3.csv")
    for missing in (6, 3, 0):
        whole.iloc[: len(whole) - missing].to_csv(tmp_path / "VALE3.csv", index=False)
        forecast_stock("VALE3", "csv", tmp_path, ForecastWriter())
    [expected] = accuracy(log.outcomes("VALE3"))
    app = open_page("performance")
    versions, steps = (table.value for table in app.dataframe[-2:])
    assert versions["version"].tolist() == [f"VALE3 · {expected['version']}"]
    assert versions["n"].tolist() == [6 + 3]
    for name in ("rmse", "mape", "skill_mape", "coverage_90"):
        assert versions[name].tolist() == [expected[name]]
        assert steps[name].tolist() == [step[name] for step in expected["steps"]]
    assert steps["step"].tolist() == [1, 2, 3, 4, 5, 6]


def test_before_a_forecast_has_met_its_closes_the_page_says_how_it_will(open_page, log):
    open_page("forecast")
    assert "No forecast of VALE3 can be evaluated yet" in text_of(open_page("performance"))
    assert "Ainda não há previsão de PETR4" in text_of(open_page("performance", language="pt", stock="PETR4"))


def test_a_log_that_does_not_answer_leaves_the_rest_of_the_page(open_page, log, monkeypatch):
    monkeypatch.setenv("PREGAO_FORECASTS_URI", "postgresql://nobody@127.0.0.1:1/nothing")
    app = open_page("performance", language="pt")
    assert "O banco de previsões não responde" in text_of(app)
    assert len(app.get(CHARTS)) == 5


def test_without_a_model_the_page_says_how_to_get_one(open_page):
    assert "Train one on the page Train" in text_of(open_page("performance"))


def test_a_run_without_tables_is_a_sentence(open_page, home, vale3):
    with runs.start_run(vale3, "old") as run:
        run.metrics({"final_mape": 2.0})
    assert "has no evaluation.csv" in text_of(open_page("performance")).replace("\\", "")
