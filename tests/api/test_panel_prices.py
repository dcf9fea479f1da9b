import threading
from datetime import timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from pregao.api import panel_prices
from pregao.api.panel_prices import PanelPrices
from pregao.config import SourceChoices
from pregao.errors import PricesUnavailable, UnknownStock
from pregao.prices.calendar import last_finished_session
from pregao.settings import settings
from tests.api.conftest import client_of, until
from tests.conftest import random_walk, with_ranges

STOCKS = ("ABEV3", "BBAS3", "CSNA3", "VALE3")
SESSION = last_finished_session("BVMF")


@pytest.fixture
def source(home, monkeypatch):
    """A source that counts its downloads; `answers` by stock are days or errors, the last session by default."""
    settings().data.mkdir()
    state = SimpleNamespace(asked=[], threads=set(), answers={}, stale=False)

    class Source:
        def __init__(self, name, path):
            self.source = name, path

        def latest(self, symbol, sessions):
            state.asked.append(symbol.ticker)
            state.threads.add(threading.current_thread().name)
            answer = state.answers.get(symbol.ticker, SESSION)
            if isinstance(answer, Exception):
                raise answer
            (settings().data / f"{symbol}.csv").write_text(f"{len(state.asked)}")
            return SimpleNamespace(as_of=answer, stale=state.stale, tried=("yahoo: no network",) if state.stale else ())

    monkeypatch.setattr(panel_prices, "Downloader", Source)
    return state


def panel(source="auto", stocks=STOCKS, path=None):
    return PanelPrices(SourceChoices(name=source, path=path), 0.01, lambda: stocks)


def test_the_panel_is_downloaded_once_per_session_one_stock_after_another(source):
    found = panel(stocks=(*STOCKS, "SP500"))
    found.refresh()
    assert (source.asked, found.refreshed) == (list(STOCKS), 1)
    found.refresh()
    assert (len(source.asked), found.refreshed) == (4, 1)
    found.stocks = lambda: STOCKS[:2]  # another model is served
    found.refresh()
    assert source.asked[4:] == ["ABEV3", "BBAS3"]


def test_the_panel_is_asked_again_while_most_stocks_lack_the_last_session(source):
    source.answers = dict.fromkeys(STOCKS[:3], SESSION - timedelta(days=1))
    found = panel()
    found.refresh()
    found.refresh()
    assert (len(source.asked), found.refreshed) == (8, 2)
    del source.answers["ABEV3"]  # half of them
    found.refresh()
    found.refresh()
    assert len(source.asked) == 12


def test_a_stock_without_prices_is_left_out_and_a_source_without_an_answer_ends_the_refresh(source, caplog):
    source.answers = {
        "ABEV3": UnknownStock("ABEV3", "yahoo", "ABEV3.SA", "Check it."),
        "CSNA3": PricesUnavailable("CSNA3", ["yahoo: no network"], "Try again."),
    }
    found = panel()
    found.refresh()
    assert source.asked == ["ABEV3", "BBAS3", "CSNA3"]
    assert "ABEV3 is left out of the market" in caplog.text
    found.refresh()
    assert caplog.text.count("The market is not refreshed") == 1, "each reason is logged once"
    source.stale = True  # the cache instead of the source
    found.refresh()
    assert source.asked[6:] == ["ABEV3", "BBAS3"]


def test_an_unchanged_panel_is_not_a_refresh(source):
    source.answers = dict.fromkeys(STOCKS, PricesUnavailable("VALE3", [], ""))
    found = panel()
    found.refresh()
    assert found.refreshed == 0


def test_the_thread_downloads_survives_a_failure_and_ends(source, caplog):
    source.answers = {"ABEV3": ValueError("a defect")}
    found = panel()
    found.start()
    found.start()
    until(lambda: len(source.asked), lambda asked: asked >= 2)
    source.answers.clear()
    until(lambda: found.refreshed, bool)
    found.close()
    found._thread.join(10)
    assert not found._thread.is_alive()
    assert found._thread.daemon, "a source that hangs must not delay the end of the process"
    assert source.threads == {"panel"}
    assert "a defect" in caplog.text


@pytest.mark.parametrize("name", ["csv", "sample", "b3"])
def test_a_source_that_answers_from_files_is_not_refreshed(source, tmp_path, name):
    found = panel(name, path=tmp_path if name == "csv" else None)
    found.start()
    assert not found._thread.is_alive()


@pytest.fixture
def stocks(tmp_path):
    with_ranges(random_walk(seed=9)).to_csv(tmp_path / "WEGE3.csv", index=False)
    return tmp_path


def test_a_cached_answer_is_used_until_the_panel_is_refreshed(shared, stocks):
    def answer():
        return client.post("/predict", json={"stock": "WEGE3"}).json()

    with client_of(stocks, "retry=300") as client:
        forecasts = client.service.forecasts
        assert forecasts.panel_stocks() == {"PETR4", "ITUB4"}
        before = answer()
        assert (before["market"]["as_of"], before["market"]["stocks"]) == ("2024-06-28", 2)
        assert before["market"]["sessions_old"] == (random_walk()["date"] > "2024-06-28").sum()
        for seed, stock in enumerate(("PETR4", "ITUB4"), start=1):
            with_ranges(random_walk(seed=seed)).to_csv(stocks / f"{stock}.csv", index=False)
        assert answer() == before
        forecasts.panel.refreshed += 1
        after = answer()
        assert after["market"] == {"as_of": "2024-12-30", "sessions_old": 0, "stocks": 2}
        assert after["forecast"] != before["forecast"]
        assert answer() == after
        closes = pd.read_csv(stocks / "WEGE3.csv")["close"].tolist()
        body = {"stock": "WEGE3", "historical_data": closes}
        assert client.post("/predict", json=body).json()["market"] == after["market"]
        del body["stock"]
        assert client.post("/predict", json=body | {"stock": "VALE3"}).json()["market"] is None
