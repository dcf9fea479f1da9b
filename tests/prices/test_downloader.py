import errno
import logging
import os
import shutil
import time
from datetime import date

import pandas as pd
import pytest

from pregao.errors import BadPrices, InvalidChoice, InvalidDates, InvalidSymbol, PricesUnavailable, UnknownStock
from pregao.prices import Downloader, Symbol
from pregao.prices.actions import ActionStore
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.sources.sample import SampleSource
from pregao.prices.sources.yahoo import YahooSource
from pregao.prices.table import COLUMNS
from tests.prices.conftest import CLOSES, NOW, prices_of

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
    assert closes["date"].dt.date.tolist() == [date(2024, 1, 3), date(2024, 1, 4)]
    finished("2024-01-04")  # the file also has the session of today
    for end in (None, "2024-01-05", "2030-01-01"):
        assert downloader.prices(Symbol.parse("VALE3"), START, end).as_of == date(2024, 1, 4)
    assert downloader.latest("VALE3", 2).closes["close"].tolist() == CLOSES[1:3]
    assert not (home / "data").exists()


def test_adjusted_prices_equal_the_exchanges_on_the_last_day_of_the_range(mine):
    table = prices_of(CLOSES).assign(adj_close=[8.0, 9.0, 12.0, 11.0])  # a dividend before the third day
    table.to_csv(mine / "VALE3.csv", index=False)
    downloader = Downloader("csv", mine)
    whole = downloader.prices("VALE3", START).table
    assert whole["close"].tolist() == whole["open"].tolist() == [8.0, 9.0, 12.0, 11.0]
    assert whole["volume"].tolist() == [100.0] * 4
    before = downloader.prices("VALE3", START, "2024-01-03").table
    assert before["close"].tolist() == [pytest.approx(8.0 / 9.0 * 11.0), 11.0]


def test_without_adj_close_the_close_is_used_with_one_warning_and_those_of_the_range(mine, caplog):
    prices_of([5.0, *CLOSES[1:]])[["date", "close"]].to_csv(mine / "VALE3.csv", index=False)
    downloader = Downloader("csv", mine)
    prices = [downloader.prices("VALE3", "2024-01-03") for _ in range(2)]
    assert prices[1].closes["close"].tolist() == CLOSES[1:]
    assert len(prices[1].warnings) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (warning,) = Downloader("csv", mine, "close").prices("VALE3", START).warnings
    assert "daily moves" in warning


def test_the_latest_sessions_are_the_last_of_the_source_and_need_only_the_least_years(mine, finished, monkeypatch):
    finished("2024-06-03")  # long after the end of the file
    downloader = Downloader("csv", mine, "close")
    assert downloader.latest("VALE3", 3).closes["close"].tolist() == CLOSES[-3:]
    assert downloader.latest("VALE3", 30).closes["close"].tolist() == CLOSES
    asked = []

    def history(_, symbol, first, end):
        asked.append(first)
        raise OFFLINE

    monkeypatch.setattr(Downloader, "_history", history)
    for least in (20, None):
        with pytest.raises(PricesUnavailable):
            Downloader("b3").latest("VALE3", 2000, least)
    assert asked[0] > date(2024, 2, 25)
    assert asked[1] < date(2016, 1, 1)


def test_a_whole_history_is_cached_up_to_the_last_finished_session_and_used_again(yahoo_says, cache, vale):
    table = prices_of([10.123456789, 11.1, 12.7, 11.3, 99.0])
    asked = yahoo_says(table)
    first = Downloader().prices("VALE3", "2024-01-04", "2030-01-01")
    second, third = (Downloader().prices("VALE3", START) for _ in range(2))
    assert asked == ["VALE3"]
    assert (first.source, second.source, second.stale, second.warnings) == ("yahoo", "cache", False, ())
    assert (first.as_of, len(second.table)) == (NOW, 4)
    pd.testing.assert_frame_equal(cache.read(vale), table[:4], check_exact=True)
    pd.testing.assert_frame_equal(second.table, third.table, check_exact=True)


def test_a_cache_is_fresh_for_an_end_in_the_past(yahoo_says, cache, vale):
    cache.write(vale, prices_of(CLOSES[:3]))
    asked = yahoo_says(OFFLINE)
    prices = Downloader().prices("VALE3", START, "2024-01-04")
    assert (prices.stale, asked) == (False, [])
    with pytest.raises(PricesUnavailable, match="no network"):  # source=yahoo never uses the cache
        Downloader("yahoo").prices("VALE3", START, "2024-01-04")


def test_a_new_download_replaces_the_whole_cache(yahoo_says, cache, vale):
    cache.write(vale, prices_of(CLOSES[:3]))
    yahoo_says(prices_of([1.0, None, 1.2, 1.1]))  # a 10:1 split since
    prices = Downloader().prices("VALE3", START)
    assert cache.read(vale)["close"].tolist() == [1.0, 1.2, 1.1]
    assert "VALE3: rows without a close: 1 (2024-01-03), repaired" in prices.warnings


@pytest.mark.parametrize("error", [OFFLINE, UNKNOWN, prices_of(CLOSES[:2])], ids=["offline", "unknown", "incomplete"])
def test_auto_falls_back_to_a_stale_cache_with_a_warning(yahoo_says, cache, vale, caplog, error):
    cache.write(vale, prices_of(CLOSES[:3]))
    yahoo_says(error)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source, prices.stale, prices.as_of) == ("cache", True, date(2024, 1, 4))
    assert "VALE3: prices from the cache, which ends on 2024-01-04" in prices.warnings[0]
    assert prices.warnings[0] in caplog.text
    assert cache.read(vale)["close"].tolist() == CLOSES[:3]


def test_auto_without_any_prices_lists_the_sources_that_were_tried(yahoo_says, monkeypatch):
    monkeypatch.setattr(Fetcher, "fetch", None)  # a forecast must not wait for the download of a year
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable) as refusal:
        Downloader().prices("VALE3", START)
    assert [reason.partition(":")[0] for reason in refusal.value.tried] == ["sample", "cache", "yahoo", "b3"]
    yahoo_says(UNKNOWN)
    with pytest.raises(UnknownStock):
        Downloader().prices("VALE3", START)


def test_a_cache_that_cannot_be_written_is_a_warning_and_bad_prices_are_refused(yahoo_says, home, full_disk):
    yahoo_says(prices_of(CLOSES))
    full_disk()
    prices = Downloader().prices("VALE3", START)
    assert len(prices.table) == 4
    (warning,) = prices.warnings
    assert f"{home}/data/VALE3.csv ({os.strerror(errno.ENOSPC)})" in warning
    assert os.listdir(home / "data") == []
    yahoo_says(prices_of([10.0, -11.0, 12.0, 11.0]))
    with pytest.raises(BadPrices, match=r"prices of zero or less: 1 \(2024-01-03\)"):
        Downloader().prices("VALE3", START)


@pytest.mark.parametrize("ticker", ["SP500", "NASDAQ"])
def test_the_sample_is_complete_and_needs_neither_network_nor_cache(ticker, home):
    table = SampleSource().history(Symbol.parse(ticker))
    assert (list(table.columns), len(table)) == (COLUMNS, 5031)
    prices = Downloader().prices(ticker, "1999-01-01")
    assert (prices.source, prices.stale, prices.as_of, prices.warnings) == ("sample", False, date(2018, 12, 31), ())
    with pytest.raises(PricesUnavailable, match=r"1999-01-04\.\.2018-12-31, nothing from 2020-01-01"):
        Downloader().prices(ticker, "2020-01-01")
    with pytest.raises(UnknownStock, match="SP500 and NASDAQ"):
        Downloader("sample").prices("VALE3", START)
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
    prices_of(CLOSES).to_csv(mine / "SHARED.csv", index=False)
    for downloader in (Downloader(), Downloader("csv", mine), Downloader("sample")):
        for ask in (lambda d: d.latest("shared", 20), lambda d: d.prices("SHARED", START)):
            with pytest.raises(UnknownStock, match="the model of many stocks"):
                ask(downloader)
    assert asked == []


def test_auto_falls_back_from_yahoo_to_stored_quotes_and_logs_each_step_once(yahoo_says, stored, caplog):
    yahoo_says(OFFLINE)
    stored(CLOSES)
    downloader = Downloader()
    with caplog.at_level(logging.INFO, logger="pregao"):
        prices = [downloader.prices("VALE3", START) for _ in range(2)][1]
    assert prices.closes["close"].tolist() == CLOSES
    assert prices.source_as_dict == {"name": "b3", "reasons": ["cache: none", "yahoo: no network"]}
    assert not prices.stale
    assert caplog.text.count("cache: none") == caplog.text.count("yahoo: no network") == 1
    assert "VALE3: prices from B3's own quotes, which end on 2024-01-05" in caplog.text
    with pytest.raises(PricesUnavailable, match="2022, 2023"):  # years that are not stored
        downloader.prices("VALE3", "2022-06-01")


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
    yahoo_says, stored, cache, vale, cached, quotes, source, stale, reason
):
    if cached:
        cache.write(vale, prices_of(cached))
    stored(quotes, volumes=[1000, 1000, 1000, 10_000])
    yahoo_says(OFFLINE)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source, prices.stale) == (source, stale)
    assert reason in prices.tried[-1]


def test_yahoos_dividends_adjust_stored_quotes_later(fake_yahoo, finished, stored, home, cache, vale, monkeypatch):
    """The fake answer has a dividend of 0.50 on the second day; B3's close before it is 10."""
    finished(NOW)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    fake_yahoo.answer_prices(prices_of(CLOSES))
    assert Downloader("yahoo").closes("VALE3", START)["close"].tolist() == cache.read(vale)["close"].tolist() == CLOSES
    assert ActionStore().read(vale, "yahoo").dividends == {date(2024, 1, 3): 0.5}
    cache.path(vale).unlink()
    stored(CLOSES)
    fake_yahoo.answer(b"", status=429)
    prices = Downloader().prices("VALE3", START)
    assert (prices.source, prices.closes["close"].tolist()) == ("b3", pytest.approx([9.5, 11.0, 12.0, 11.0]))
    shutil.rmtree(home / "data/actions")
    (home / "data/actions").write_text("a file instead of the folder")
    fake_yahoo.answer_prices(prices_of(CLOSES))
    (warning,) = Downloader("yahoo", price="close").prices("VALE3", START).warnings
    assert "not stored for source=b3 (File exists)" in warning
