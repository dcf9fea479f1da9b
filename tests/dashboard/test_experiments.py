import pytest

from pregao.tracking import registry, runs
from pregao.tracking.run_table import table
from tests.dashboard.conftest import text_of
from tests.dashboard.test_prices import CHARTS


def test_all_runs_are_listed_with_the_served_one_marked(open_page, with_runs):
    app = open_page("experiments")
    shown, known = app.dataframe[0].value, table()
    assert len(shown) == len(known) == 2
    [(_, served)] = registry.champions().values()
    assert shown.loc[shown["served"] == "★", "run_id"].tolist() == [served[:8]]
    assert shown["final_mape"].tolist() == known["final_mape"].tolist()
    assert shown["link"].str.startswith("http://localhost:5001/#/experiments/").all()
    assert shown["link"].str.endswith(tuple(known["run_id"])).all()


def test_a_run_shows_its_losses_and_parameters(open_page, with_runs):
    app = open_page("experiments")
    assert len(app.get(CHARTS)) == 1
    parameters = app.dataframe[1].value.set_index("name")["value"]
    assert parameters["hidden_size"] == "4"
    assert parameters["seed"] == "1"
    assert not [name for name in parameters.index if name.startswith("mlflow.")]


def test_runs_are_filtered_by_stock(open_page, with_runs):
    app = open_page("experiments")
    assert app.selectbox(key="experiment").options == ["all", "VALE3"]
    app.selectbox(key="experiment").set_value("VALE3").run()
    assert len(app.dataframe[0].value) == 2


def test_without_runs_the_page_says_how_to_get_some(open_page):
    assert "MLflow has no runs yet" in text_of(open_page("experiments"))


def test_a_run_without_losses_says_so(open_page, home, vale3):
    with runs.start_run(vale3, "bare") as run:
        run.params({"seed": 1})
    assert "logged no loss" in text_of(open_page("experiments"))


@pytest.mark.parametrize("page", ["performance", "forecast", "experiments"])
def test_a_tracker_that_is_down_is_a_sentence(open_page, home, page):
    (home / "mlruns/mlflow.db").write_bytes(b"no database")
    shown = text_of(open_page(page)).replace("\\", "")
    assert "MLflow at" in shown
    assert "error in Pregão" not in shown


def test_prices_are_shown_where_the_tracker_is_down(open_page, home):
    (home / "mlruns/mlflow.db").write_bytes(b"no database")
    app = open_page("prices")
    assert len(app.metric) == 4
