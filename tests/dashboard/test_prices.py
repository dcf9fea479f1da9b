from unittest.mock import Mock

import pandas as pd
import pytest

from pregao.dashboard import state
from pregao.dashboard.sentences import SENTENCES, SUMMARIES
from pregao.errors import PricesUnavailable
from tests.dashboard.conftest import CHARTS, chart_data, metrics, text_of


def test_the_first_page_shows_a_stock_its_source_and_the_parts_of_a_training(open_page, stocks):
    app = open_page()
    shown, closes = metrics(app), pd.read_csv(stocks / "VALE3.csv")["close"]
    assert (shown["Sessions"], shown["Source"], shown["Up to"]) == ("400", "CSV file", "2024-12-30")
    assert app.metric[0].delta == f"{100 * (closes.iloc[-1] / closes.iloc[-2] - 1):+.2f} %"
    assert "from 2020-01-01" in text_of(app)
    assert len(app.get(CHARTS)) == 2
    app.segmented_control(key="range").set_value("all").run()
    parts, prices = chart_data(app)
    assert len(prices) == 400
    assert parts["begin"].tolist()[1:] == parts["end"].tolist()[:-1]
    assert parts["end"].iloc[-1] == prices["date"].iloc[-1]


def test_a_range_ends_at_the_last_session_and_includes_its_first_day(open_page, stocks, tmp_path):
    table = pd.read_csv(stocks / "VALE3.csv", parse_dates=["date"])
    table[table["date"] <= "2024-12-27"].to_csv(tmp_path / "VALE3.csv", index=False)
    app = open_page(folder=tmp_path)
    app.segmented_control(key="style").set_value("candles")
    first = table["date"].iloc[0]
    for chosen, start in {"month": "2024-11-27", "half": "2024-06-27", "five": first, "dates": first}.items():
        app.segmented_control(key="range").set_value(chosen).run()
        days = chart_data(app)[-1]["date"]
        assert (days.min(), days.max()) == (pd.Timestamp(start), pd.Timestamp("2024-12-27"))


@pytest.mark.parametrize(("stock", "kind"), [("PETR9", "UnknownStock"), ("x; DROP TABLE", "InvalidSymbol")])
def test_an_unknown_stock_is_refused_without_naming_a_folder(open_page, stocks, stock, kind):
    app = open_page(language="pt", stock=stock)
    assert app.warning[0].value == SUMMARIES[kind]
    assert stock in text_of(app)
    assert str(stocks) not in text_of(app)


def test_without_a_network_the_refusal_is_cached_and_the_samples_work(open_page, monkeypatch):
    down = Mock(side_effect=PricesUnavailable("VALE3", ["yahoo: no network"], "Check the network."))
    monkeypatch.setattr("pregao.prices.sources.yahoo.YahooSource.history", down)
    app = open_page("prices", "source=auto", language="pt")
    app.toggle(key="adjusted").set_value(True).run()
    assert SUMMARIES["PricesUnavailable"] in text_of(app)
    assert down.call_count == 1
    app.selectbox(key="stock").set_value("SP500").run()
    assert metrics(app)["Último fechamento, US\\$"] == "2.506,85"


def test_an_unexpected_error_is_a_message_without_a_traceback(open_page, monkeypatch):
    monkeypatch.setattr(state.Downloader, "prices", lambda *_: 1 / 0)
    app = open_page()
    assert [error.value for error in app.error] == [SENTENCES["internal"][1]]
    assert not app.exception
