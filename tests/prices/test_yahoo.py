import time

import pandas as pd
import pytest

from pregao.errors import PricesUnavailable, UnknownStock
from pregao.prices import Symbol
from pregao.prices.sources import yahoo
from pregao.prices.sources.yahoo import YahooSource
from tests.prices.conftest import chart, prices_of

CLOSES = [10.0, 11.0, 12.0]
DELISTED = "No data found, symbol may be delisted"
NO_STOCK = {"chart": {"result": None, "error": {"code": "Not Found", "description": DELISTED}}}
BUSY = b"Too Many Requests", 429
PAGE = b"<html>sign in to the hotel's network: no data found</html>"


@pytest.fixture
def source():
    return YahooSource(deadline=5, timeout=2, attempts=2, pause=0.01)


def refused(source, symbol):
    with pytest.raises(PricesUnavailable) as refusal:
        source.history(symbol)
    (tried,) = refusal.value.tried
    return tried.removeprefix("yahoo: ")


def test_an_answer_becomes_a_table_on_the_exchanges_days_through_all_summer_times(fake_yahoo, source):
    table = prices_of([10.0, None, 11.0] * 1000, start="2000-01-03")
    fake_yahoo.answer_prices(pd.concat([table, table.iloc[[-1]]]))
    pd.testing.assert_frame_equal(source.history(Symbol.parse("WEGE3")), table)
    assert fake_yahoo.charts_asked == 1  # no request for the time zone


def test_an_unknown_stock_is_not_retried_and_not_logged(fake_yahoo, source, vale3, caplog, capfd):
    fake_yahoo.answer(NO_STOCK, status=404)
    with pytest.raises(UnknownStock, match=r"VALE3\.SA"):
        source.history(vale3)
    assert fake_yahoo.charts_asked == 2  # yfinance itself repeats the request with new cookies
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_transient_error_is_retried(fake_yahoo, source, vale3, monkeypatch):
    def recover(pause):
        if pause:
            fake_yahoo.answer_prices(prices_of(CLOSES))

    fake_yahoo.answer(PAGE, 503)
    monkeypatch.setattr(time, "sleep", recover)
    assert len(source.history(vale3)) == 3


BAD = {"chart": {"result": None, "error": {"code": "Bad Request", "description": "Data doesn't exist for startDate"}}}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (BUSY, "rate limit: Yahoo refuses more requests for now (HTTP 429)"),
        ((chart(prices_of([])),), "an answer that could not be read (an empty answer)"),
        (({"chart": {"result": [], "error": None}},), "an empty answer"),
        *(((PAGE, status), "an answer that is not JSON") for status in (200, 404, 503)),
        ((BAD, 400), "an empty answer (Data doesn't exist"),
    ],
)
def test_other_answers_are_neither_data_nor_an_unknown_stock(fake_yahoo, source, vale3, answer, reason):
    fake_yahoo.answer(*answer)
    assert refused(source, vale3).startswith(reason)


def test_a_server_that_does_not_answer_is_a_time_out(fake_yahoo, vale3, monkeypatch):
    fake_yahoo.hangs = True
    assert refused(YahooSource(timeout=0.2, attempts=1), vale3).startswith("time-out: no answer in time")
    monkeypatch.setattr(yahoo, "_ask", lambda *_: time.sleep(0.5))
    assert refused(YahooSource(deadline=0.1), vale3) == "time-out: no answer in 0.1 s"


@pytest.mark.parametrize(("deadline", "attempts"), [(8, 2), (30, 3)])
def test_no_attempt_starts_whose_time_limit_is_after_the_deadline(vale3, monkeypatch, deadline, attempts):
    asked, now = [], [100.0]

    def busy(*_):
        asked.append(now[0])
        raise TimeoutError

    monkeypatch.setattr(yahoo, "_ask", busy)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda pause: now.__setitem__(0, now[0] + pause))
    with pytest.raises(PricesUnavailable, match="time-out"):
        YahooSource(timeout=4, pause=2)._try_repeatedly(vale3, now[0] + deadline)
    assert asked == [100.0, 102.0, 106.0][:attempts]


def test_without_a_network_the_reason_is_not_an_unknown_stock(fake_yahoo, source, vale3):
    fake_yahoo.url = "http://yahoo.invalid"
    assert refused(source, vale3).startswith("no network: Yahoo's name could not be resolved")
    fake_yahoo.url = "http://127.0.0.1:9"
    assert refused(source, vale3).startswith("no connection")
