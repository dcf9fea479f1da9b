import pytest

from pregao.dashboard.sentences import SUMMARIES
from pregao.tracking import registry
from pregao.tracking.run_table import table
from tests.dashboard.conftest import CHARTS, text_of


def test_all_runs_are_listed_and_one_is_shown_with_losses_and_parameters(open_page, with_runs):
    app = open_page("experiments")
    assert app.selectbox(key="experiment").options == ["all", "VALE3"]
    app.selectbox(key="experiment").set_value("VALE3").run()
    shown, known = app.dataframe[0].value, table()
    assert len(known) == 2
    [(_, served)] = registry.champions().values()
    assert shown.loc[shown["served"] == "★", "run_id"].tolist() == [served[:8]]
    assert shown["final_mape"].tolist() == known["final_mape"].tolist()
    assert shown["link"].str.endswith(tuple(known["run_id"])).all()
    assert len(app.get(CHARTS)) == 1
    parameters = app.dataframe[1].value.set_index("name")["value"]
    assert (parameters["hidden_size"], parameters["seed"]) == ("4", "1")


@pytest.mark.parametrize("page", ["prices", "performance", "forecast", "experiments"])
def test_a_damaged_tracking_database_gives_a_message_and_leaves_the_prices(open_page, home, page):
    (home / "mlruns/mlflow.db").write_bytes(b"no database")
    app = open_page(page, language="pt")
    assert (SUMMARIES["TrackingUnavailable"] in text_of(app)) == (page != "prices")
    assert len(app.metric) == (4 if page == "prices" else 0)
