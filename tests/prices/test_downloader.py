import logging
import time
from datetime import date

import pandas as pd
import pytest

from pregao.errors import InvalidChoice, InvalidDates, InvalidSymbol, PricesUnavailable, UnknownStock
from pregao.prices import Downloader, Symbol
from pregao.prices.actions import ActionStore
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.sources.yahoo import YahooSource
from tests.prices.conftest import CLOSES, NOW, prices_of, written

OFFLINE = PricesUnavailable("VALE3", ["yahoo: no network"], "Try again.")
UNKNOWN = UnknownStock("VALE3", "Yahoo", "VALE3.SA", "Check the ticker.")
START = "2024-01-02"


@pytest.fixture
def yahoo_says(monkeypatch, finished):
    """Set Yahoo's answer: a table, or an error; returns the list of requested stocks."""
    asked = []
    finished(NOW)

    def say(answer):
        def history(_, symbol):
            asked.append(str(symbol))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(YahooSource, "history", history)
        return asked

    return say


def test_both_ends_count_and_the_last_finished_session_is_the_latest(mine, finished, home):
    downloader = Downloader("csv", str(mine), "close")
    closes = downloader.closes("vale3.sa", "2024-01-03", date(2024, 1, 4))
    assert closes.columns.tolist() == ["date", "close"]
    assert closes["close"].tolist() == [11.0, 12.0]
    finished("2024-01-04")  # the file also has the session of today
    for end in (None, "2024-01-05", "2030-01-01"):
        assert downloader.prices(Symbol.parse("VALE3"), START, end).as_of == date(2024, 1, 4)
    assert downloader.latest("VALE3", 2).closes["close"].tolist() == CLOSES[1:3]
    assert not (home / "data").exists()


def test_adjusted_prices_equal_the_exchanges_on_the_last_day_of_the_range(mine):
    written(mine, prices_of(CLOSES).assign(adj_close=[8.0, 9.0, 12.0, 11.0]))  # a dividend before the third day
    downloader = Downloader("csv", mine)
    whole = downloader.prices("VALE3", START).table
    assert whole["close"].tolist() == whole["open"].tolist() == [8.0, 9.0, 12.0, 11.0]
    assert whole["volume"].tolist() == [100.0] * 4
    before = downloader.prices("VALE3", START, "2024-01-03").table
    assert before["close"].tolist() == [pytest.approx(8.0 / 9.0 * 11.0), 11.0]


def test_without_adj_close_the_close_is_used_with_one_warning(mine, caplog):
    written(mine, prices_of(CLOSES)[["date", "close"]])
    downloader = Downloader("csv", mine)
    for _ in range(2):
        prices = downloader.prices("VALE3", START)
    assert (prices.closes["close"].tolist(), len(prices.warnings)) == (CLOSES, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_latest_sessions_are_the_last_of_the_source(mine, finished):
    finished("2024-06-03")  # long after the end of the file
    for sessions in 3, 30:
        assert Downloader("csv", mine, "close").latest("VALE3", sessions).closes["close"].tolist() == CLOSES[-sessions:]


def test_a_whole_history_is_cached_up_to_the_last_finished_session_and_used_again(yahoo_says, cache, vale3):
    table = prices_of([10.123456789, 11.1, 12.7, 11.3, 99.0])
    asked = yahoo_says(table)
    first, second, past = (Downloader().prices("VALE3", START, end) for end in ("2030-01-01", None, "2024-01-04"))
    assert asked == ["VALE3"]
    assert [prices.source for prices in (first, second, past)] == ["yahoo", "cache", "cache"]
    assert (first.as_of, len(second.table), second.stale, second.warnings, past.stale) == (NOW, 4, False, (), False)
    pd.testing.assert_frame_equal(cache.read(vale3), table[:4], check_exact=True)
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable, match="no network"):  # source=yahoo never uses the cache
        Downloader("yahoo").prices("VALE3", START, "2024-01-04")


def test_auto_uses_a_cache_that_is_fresh_for_an_end_in_the_past(yahoo_says, cache, vale3):
    cache.write(vale3, prices_of(CLOSES[:3]))
    asked = yahoo_says(OFFLINE)
    assert not Downloader().prices("VALE3", START, "2024-01-04").stale
    assert asked == []


@pytest.mark.parametrize("error", [OFFLINE, UNKNOWN, prices_of(CLOSES[:2])], ids=["offline", "unknown", "incomplete"])
def test_auto_falls_back_to_a_stale_cache_with_a_warning(yahoo_says, cache, vale3, caplog, error):
    cache.write(vale3, prices_of(CLOSES[:3]))
    yahoo_says(error)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source, prices.stale, prices.as_of) == ("cache", True, date(2024, 1, 4))
    assert prices.warnings[0] in caplog.text
    assert cache.read(vale3)["close"].tolist() == CLOSES[:3]


def test_auto_without_any_prices_lists_the_sources_that_were_tried(yahoo_says, monkeypatch):
    monkeypatch.setattr(Fetcher, "fetch", None)  # a forecast must not wait for the download of a year
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable) as refusal:
        Downloader().prices("VALE3", START)
    assert [reason.partition(":")[0] for reason in refusal.value.tried] == ["sample", "cache", "yahoo", "b3"]
    yahoo_says(UNKNOWN)
    with pytest.raises(UnknownStock):
        Downloader().prices("VALE3", START)


@pytest.mark.parametrize("ticker", ["SP500", "NASDAQ"])
def test_the_sample_is_complete_and_needs_neither_network_nor_cache(ticker, home):
    prices = Downloader().prices(ticker, "1999-01-01")
    assert (prices.source, prices.stale, prices.as_of, prices.warnings) == ("sample", False, date(2018, 12, 31), ())
    assert len(prices.table) == 5031
    with pytest.raises(PricesUnavailable, match=r"1999-01-04\.\.2018-12-31, nothing from 2020-01-01"):
        Downloader().prices(ticker, "2020-01-01")
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("bloomberg",), r"source=bloomberg .*auto, b3, csv, sample, yahoo"),
        (("auto", None, "open"), r"data\.price=open .*adjusted, close"),
        *(((source, "/tmp"), rf"source={source}\. Use .*source=csv") for source in ("auto", "yahoo", "sample")),
        *((("csv", path), "source.path=") for path in (None, "", "/nowhere", "/" + "x" * 300, "~nobody", "/a\0b")),
    ],
)
def test_a_choice_that_is_not_allowed_is_refused_before_any_work(arguments, found):
    with pytest.raises(InvalidChoice, match=found):
        Downloader(*arguments)


def test_tickers_and_dates_are_checked_before_a_source_is_asked(yahoo_says, mine):
    asked = yahoo_says(OFFLINE)
    with pytest.raises(InvalidSymbol):
        Downloader().prices("../../etc/passwd", START)
    with pytest.raises(InvalidDates):
        Downloader().prices("VALE3", "2024-13-02")
    for downloader in (Downloader(), Downloader("csv", mine), Downloader("sample")):
        with pytest.raises(UnknownStock, match="the model of many stocks"):
            downloader.latest("shared", 20)
    assert asked == []


@pytest.mark.parametrize(
    ("cached", "quotes", "source", "stale", "reason"),
    [
        (CLOSES[:3], CLOSES[:3], "cache", True, "b3: the stored quotes end on 2024-01-04"),
        (CLOSES[:3], CLOSES, "b3", False, "yahoo: no network"),
        (None, CLOSES[:2], "b3", True, "yahoo: no network"),
        ([20.0, 20.1, 2.01], [20.0, 20.1, 2.01, 2.02], "b3", False, "yahoo: no network"),
        ([20.0, 20.1, 20.2], [20.0, 20.1, 20.2, 2.02], "cache", True, "10:1 on 2024-01-05"),
    ],
    ids=["not newer", "newer", "not up to date", "a likely split in both", "a likely split"],
)
def test_auto_uses_stored_quotes_only_if_they_are_newer_than_the_cache(
    yahoo_says, stored, cache, vale3, cached, quotes, source, stale, reason
):
    if cached:
        cache.write(vale3, prices_of(cached))
    stored(quotes, volumes=[1000, 1000, 1000, 10_000])
    yahoo_says(OFFLINE)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source_as_dict["name"], prices.stale) == (source, stale)
    assert reason in prices.source_as_dict["reasons"][-1]
    with pytest.raises(PricesUnavailable, match="2022, 2023" if not cached else "nothing from"):  # not stored
        Downloader().prices("VALE3", "2022-06-01", "2023-06-01")


def test_yahoos_dividends_adjust_stored_quotes_later(fake_yahoo, finished, stored, cache, vale3, monkeypatch):
    """The fake answer has a dividend of 0.50 on the second day; B3's close before it is 10."""
    finished(NOW)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    fake_yahoo.answer_prices(prices_of(CLOSES))
    assert Downloader("yahoo").closes("VALE3", START)["close"].tolist() == cache.read(vale3)["close"].tolist() == CLOSES
    assert ActionStore().read(vale3, "yahoo").dividends == {date(2024, 1, 3): 0.5}
    cache.path(vale3).unlink()
    stored(CLOSES)
    fake_yahoo.answer(b"", status=429)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source, prices.closes["close"].tolist()) == ("b3", pytest.approx([9.5, 11.0, 12.0, 11.0]))
