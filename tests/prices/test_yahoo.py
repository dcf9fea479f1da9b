import errno
import socket
import tempfile
import time

import pandas as pd
import pytest
import yfinance

from pregao.errors import PricesUnavailable, UnknownStock
from pregao.prices import Symbol
from pregao.prices.sources import yahoo
from pregao.prices.sources.yahoo import YahooSource, normalise
from pregao.prices.table import COLUMNS

CLOSES = [10.0, 11.0, 12.0]
NOT_FOUND = {
    "chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}
}


@pytest.fixture
def source():
    return YahooSource(deadline=5, timeout=2, attempts=2, pause=0.01)


def refused(source, symbol):
    with pytest.raises(PricesUnavailable) as refusal:
        source.history(symbol)
    (tried,) = refusal.value.tried
    assert str(refusal.value).endswith("or read your own prices with source=csv source.path=DIR.")
    return tried


def test_a_good_answer_becomes_the_table_on_the_exchanges_days(fake_yahoo, source, vale, prices_of, home):
    fake_yahoo.answer_prices(prices_of(CLOSES))
    pd.testing.assert_frame_equal(source.history(vale), prices_of(CLOSES))
    assert (home / "data" / ".yfinance").is_dir()


def test_the_time_zone_of_a_stock_never_seen_costs_no_request(fake_yahoo, source, prices_of):
    fake_yahoo.answer_prices(prices_of(CLOSES))
    source.history(Symbol.parse("WEGE3"))
    assert fake_yahoo.charts_asked == 1


def test_every_session_since_2000_keeps_its_day_through_all_summer_times(fake_yahoo, source, vale, prices_of):
    table = prices_of([10.0, 11.0] * 3000, start="2000-01-03")
    fake_yahoo.answer_prices(table)
    pd.testing.assert_frame_equal(source.history(vale), table)


def test_days_without_prices_are_handed_on_for_the_quality_check(fake_yahoo, source, vale, prices_of):
    fake_yahoo.answer_prices(prices_of([10.0, None, 12.0]))
    assert source.history(vale)["close"].isna().tolist() == [False, True, False]


def test_a_day_that_comes_twice_is_handed_on_at_most_once(fake_yahoo, source, vale, prices_of):
    table = prices_of(CLOSES)
    fake_yahoo.answer_prices(pd.concat([table, table.iloc[[2]]]))
    assert len(source.history(vale)) == 3


def test_an_unknown_stock_is_said_to_be_unknown_after_one_attempt(fake_yahoo, source, vale):
    fake_yahoo.answer(NOT_FOUND, status=404)
    with pytest.raises(UnknownStock) as refusal:
        source.history(vale)
    assert str(refusal.value) == (
        "VALE3: Yahoo knows no such stock (asked VALE3.SA). "
        "Check the ticker, or read your own prices with source=csv source.path=DIR."
    )
    assert fake_yahoo.charts_asked == 2  # yfinance itself asks again with fresh cookies


def test_a_rate_limit_is_tried_again_and_named(fake_yahoo, source, vale):
    fake_yahoo.answer(b"Too Many Requests", status=429)
    assert refused(source, vale) == "yahoo: rate limit: Yahoo refuses more requests for now (HTTP 429)"
    assert fake_yahoo.charts_asked == 4


def test_a_fault_that_passes_is_not_noticed(fake_yahoo, source, vale, prices_of, monkeypatch):
    def recover(pause):
        if pause:
            fake_yahoo.answer_prices(prices_of(CLOSES))

    fake_yahoo.answer(b"Too Many Requests", status=429)
    monkeypatch.setattr(time, "sleep", recover)
    assert len(source.history(vale)) == 3
    assert fake_yahoo.charts_asked == 3


@pytest.mark.parametrize(
    "document",
    [
        {"chart": {"result": [], "error": None}},
        {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}},
        {"chart": {"result": [{"meta": {}, "indicators": {"quote": [{}]}}], "error": None}},
    ],
)
def test_an_empty_answer_is_never_data(fake_yahoo, source, vale, document):
    fake_yahoo.answer(document)
    assert refused(source, vale) == "yahoo: an empty answer"


def test_a_frame_without_rows_is_never_data(fake_yahoo, source, vale, prices_of):
    fake_yahoo.answer_prices(prices_of([]))
    assert refused(source, vale).startswith("yahoo: an ")


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_web_page_instead_of_json_is_no_unknown_stock(fake_yahoo, source, vale, status):
    fake_yahoo.answer(b"<html>sign in to the hotel's network: no data found</html>", status)
    assert refused(source, vale).startswith("yahoo: an answer that is not JSON")


def test_yahoos_other_refusals_are_no_unknown_stock(fake_yahoo, source, vale):
    error = {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"}
    fake_yahoo.answer({"chart": {"result": None, "error": error}}, status=400)
    assert "Data doesn't exist" in refused(source, vale)


def test_an_answer_of_an_unknown_shape_is_refused(fake_yahoo, source, vale):
    fake_yahoo.answer({"chart": {"result": [{"meta": {}, "indicators": {"quote": [{"close": [1]}]}}], "error": None}})
    assert refused(source, vale).startswith("yahoo: an answer that could not be read")


def test_a_server_that_hangs_is_a_time_out_of_its_request(fake_yahoo, vale):
    fake_yahoo.delay = 20
    source = YahooSource(deadline=8, timeout=0.5, attempts=1)
    assert refused(source, vale).startswith("yahoo: time-out: no answer in time")


def test_nothing_takes_longer_than_the_deadline(vale, monkeypatch):
    monkeypatch.setattr(yahoo, "_ask", lambda *_: time.sleep(3))
    begin = time.monotonic()
    assert refused(YahooSource(deadline=0.3), vale) == "yahoo: time-out: no answer in 0.3 s"
    assert time.monotonic() - begin < 2


def test_an_attempt_that_would_pass_the_deadline_is_not_begun(fake_yahoo, vale):
    fake_yahoo.answer(b"Too Many Requests", status=429)
    assert "rate limit" in refused(YahooSource(deadline=5, timeout=4, attempts=3, pause=2), vale)
    assert fake_yahoo.charts_asked == 2


def test_every_request_ends_within_the_sources_own_limit(fake_yahoo):
    asked = []
    yahoo._limited(lambda **kwargs: asked.append(kwargs["timeout"]), 6, timeout=30)
    yahoo._limited(lambda **kwargs: asked.append(kwargs["timeout"]), 6, timeout=None)
    yahoo._limited(lambda **kwargs: asked.append(kwargs["timeout"]), 6, timeout=2)
    assert asked == [6, 6, 2]


def test_a_name_that_cannot_be_resolved_is_no_network_and_no_unknown_stock(fake_yahoo, source, vale):
    fake_yahoo.url = "http://yahoo.invalid"
    assert refused(source, vale).startswith("yahoo: no network: Yahoo's name could not be resolved")


def test_a_closed_port_is_no_connection(fake_yahoo, source, vale):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    fake_yahoo.url = f"http://127.0.0.1:{port}"
    assert refused(source, vale).startswith("yahoo: no connection")


def test_where_no_cookie_can_be_kept_prices_still_come(fake_yahoo, source, vale, prices_of, home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    fake_yahoo.answer_prices(prices_of(CLOSES))
    assert len(source.history(vale)) == 3


def test_on_a_full_disk_yfinance_keeps_no_cookies(fake_yahoo, source, vale, prices_of, home, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    fake_yahoo.answer_prices(prices_of(CLOSES))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert len(source.history(vale)) == 3
    assert str(home) not in yfinance.cache._CookieDBManager.get_location()


def test_yfinances_own_log_stays_quiet(fake_yahoo, source, vale, caplog, capfd):
    fake_yahoo.answer(NOT_FOUND, status=404)
    with pytest.raises(UnknownStock):
        source.history(vale)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def frame(columns):
    index = pd.date_range("2024-01-02", periods=2, tz="America/Sao_Paulo", name="Date")
    return pd.DataFrame([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], index=index, columns=columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["Close", "Adj Close", "Volume"],
        pd.MultiIndex.from_product([["Close", "Adj Close", "Volume"], ["VALE3.SA"]], names=["Price", "Ticker"]),
        pd.MultiIndex.from_product([["VALE3.SA"], ["Close", "Adj Close", "Volume"]], names=["Ticker", "Price"]),
    ],
    ids=["plain", "price first", "ticker first"],
)
def test_headers_of_every_shape_become_the_same_columns(columns):
    table = normalise(frame(columns))
    assert list(table.columns) == COLUMNS
    assert table["adj_close"].tolist() == [2.0, 5.0]
    assert table["date"].tolist() == [pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-03")]


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match="empty"):
        normalise(frame(["Close", "Adj Close", "Volume"]).iloc[:0])
