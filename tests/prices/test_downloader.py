import errno
import logging
import os
from datetime import date

import pandas as pd
import pytest

from pregao.errors import BadPrices, InvalidChoice, InvalidDates, InvalidSymbol, PricesUnavailable, UnknownStock
from pregao.prices import Downloader, Symbol, calendar
from pregao.prices.actions import ActionStore
from pregao.prices.cache import Cache
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.cotahist.store import Store
from pregao.prices.sources.yahoo import YahooSource
from tests.prices.records import record, text

CLOSES = [10.0, 11.0, 12.0, 11.0]  # 2024-01-02..2024-01-05, a Friday


@pytest.fixture
def cache(home):
    return Cache(home / "data")


@pytest.fixture
def yahoo_says(monkeypatch, finished):
    """What Yahoo answers from now on: a table or an error; records who was asked."""
    asked = []
    finished("2024-01-05")

    def say(answer):
        def history(_, symbol):
            asked.append(str(symbol))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(YahooSource, "history", history)
        return asked

    return say


OFFLINE = PricesUnavailable("VALE3", ["yahoo: no network"], "Try again.")
UNKNOWN = UnknownStock("VALE3", "Yahoo", "VALE3.SA", "Check the ticker.")


def test_both_ends_count_and_closes_are_date_and_close(tmp_path, prices_of, finished):
    finished("2024-01-05")
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    closes = Downloader("csv", str(tmp_path), "close").closes("vale3.sa", "2024-01-03", date(2024, 1, 4))
    assert closes.columns.tolist() == ["date", "close"]
    assert closes["close"].tolist() == [11.0, 12.0]
    assert closes["date"].dt.date.tolist() == [date(2024, 1, 3), date(2024, 1, 4)]


def test_adjusted_prices_equal_the_exchanges_on_the_last_day_of_the_range(tmp_path, prices_of, finished):
    finished("2024-01-05")
    table = prices_of(CLOSES)
    table["adj_close"] = [8.0, 9.0, 12.0, 11.0]  # a dividend before the third day
    table.to_csv(tmp_path / "VALE3.csv", index=False)
    downloader = Downloader("csv", tmp_path)
    whole = downloader.prices("VALE3", "2024-01-02").table
    assert whole["close"].tolist() == [8.0, 9.0, 12.0, 11.0]
    assert whole["open"].tolist() == whole["close"].tolist()
    assert whole["volume"].tolist() == [100.0] * 4
    before = downloader.prices("VALE3", "2024-01-02", "2024-01-03").table
    assert before["close"].iloc[-1] == 11.0
    assert before["close"].iloc[0] == pytest.approx(8.0 / 9.0 * 11.0)


def test_without_adj_close_the_close_is_used_and_one_warning_says_so(tmp_path, prices_of, finished, caplog):
    finished("2024-01-05")
    prices_of(CLOSES)[["date", "close"]].to_csv(tmp_path / "VALE3.csv", index=False)
    downloader = Downloader("csv", tmp_path)
    prices = [downloader.prices("VALE3", "2024-01-02") for _ in range(2)]
    assert prices[1].closes["close"].tolist() == CLOSES
    assert prices[1].warnings == ("VALE3: csv has no adj_close: close is used, not adjusted for dividends.",)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert Downloader("csv", tmp_path, "close").prices("VALE3", "2024-01-02").warnings == ()


def test_warnings_are_about_the_range_only(tmp_path, prices_of, finished):
    finished("2024-01-05")
    table = prices_of(CLOSES)
    table.loc[0, "close"] = 5.0
    table.to_csv(tmp_path / "VALE3.csv", index=False)
    downloader = Downloader("csv", tmp_path)
    assert "daily moves" in downloader.prices("VALE3", "2024-01-02").warnings[0]
    assert downloader.prices("VALE3", "2024-01-03").warnings == ()


def test_an_unfinished_session_is_dropped_and_not_cached(yahoo_says, prices_of, cache, vale):
    yahoo_says(prices_of([*CLOSES, 99.0]))
    prices = Downloader("yahoo").prices("VALE3", "2024-01-01", "2030-01-01")
    assert prices.as_of == date(2024, 1, 5)
    assert cache.read(vale)["close"].tolist() == CLOSES


def test_a_whole_history_is_cached_and_then_used_without_asking_again(yahoo_says, prices_of, cache, vale):
    asked = yahoo_says(prices_of(CLOSES))
    first = Downloader().prices("VALE3", "2024-01-04")
    second = Downloader().prices("VALE3", "2024-01-02")
    assert asked == ["VALE3"]
    assert (first.source, second.source, second.stale, second.warnings) == ("yahoo", "cache", False, ())
    assert len(second.table) == 4
    pd.testing.assert_frame_equal(cache.read(vale), prices_of(CLOSES))


def test_the_cache_changes_no_price(yahoo_says, prices_of):
    yahoo_says(prices_of([10.123456789, 11.1, 12.7, 11.3]))
    asked, cached = (Downloader().prices("VALE3", "2024-01-02").table for _ in range(2))
    pd.testing.assert_frame_equal(asked, cached, check_exact=True)


def test_a_new_download_replaces_the_whole_file(yahoo_says, prices_of, cache, vale):
    cache.write(vale, prices_of(CLOSES[:3]))
    yahoo_says(prices_of([1.0, 1.1, 1.2, 1.1]))  # a ten for one split since
    Downloader().prices("VALE3", "2024-01-02")
    assert cache.read(vale)["close"].tolist() == [1.0, 1.1, 1.2, 1.1]


def test_an_explicit_yahoo_asks_yahoo_even_with_a_fresh_cache(yahoo_says, prices_of, cache, vale):
    cache.write(vale, prices_of(CLOSES))
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable, match="no network"):
        Downloader("yahoo").prices("VALE3", "2024-01-02")


@pytest.mark.parametrize("error", [OFFLINE, UNKNOWN], ids=["offline", "unknown"])
def test_auto_falls_to_a_stale_cache_with_a_warning_that_names_its_last_date(
    yahoo_says, prices_of, cache, vale, caplog, error
):
    cache.write(vale, prices_of(CLOSES[:3]))
    yahoo_says(error)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert (prices.source, prices.stale, prices.as_of) == ("cache", True, date(2024, 1, 4))
    assert (
        "VALE3: prices from the cache, which ends on 2024-01-04, because newer ones were not available" in caplog.text
    )
    assert prices.warnings[0] in caplog.text


def test_auto_without_anything_lists_what_was_tried_and_the_way_out(yahoo_says):
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable) as refusal:
        Downloader().prices("VALE3", "2024-01-02")
    assert str(refusal.value) == (
        "VALE3: no prices. Tried: sample: it has only SP500 and NASDAQ; cache: none; yahoo: no network; "
        "b3: nothing downloaded yet (source=b3 does it). "
        "Check the network, or read your own prices with source=csv source.path=DIR."
    )


def test_an_unknown_stock_is_final_without_a_cache(yahoo_says):
    yahoo_says(UNKNOWN)
    with pytest.raises(UnknownStock, match="Yahoo knows no such stock"):
        Downloader().prices("VALE3", "2024-01-02")


def test_half_a_history_never_replaces_a_whole_one(yahoo_says, prices_of, cache, vale):
    whole = prices_of([10.0, 11.0] * 10)
    cache.write(vale, whole)
    yahoo_says(prices_of(CLOSES))
    with pytest.raises(
        PricesUnavailable, match=r"incomplete answer of 4 rows up to 2024-01-05, where .*VALE3\.csv has 20"
    ):
        Downloader("yahoo").prices("VALE3", "2024-01-02")
    pd.testing.assert_frame_equal(cache.read(vale), whole)


def test_auto_prefers_the_stale_whole_history_to_half_a_new_one(yahoo_says, prices_of, cache, vale):
    cache.write(vale, prices_of(CLOSES, start="2023-12-20").iloc[:-1])
    yahoo_says(prices_of(CLOSES[:1], start="2023-12-20"))
    prices = Downloader().prices("VALE3", "2023-12-20")
    assert prices.stale
    assert len(prices.table) == 3
    assert "incomplete answer" in prices.warnings[0]


def test_prices_that_fail_the_check_never_reach_the_cache(yahoo_says, prices_of, cache, vale):
    yahoo_says(prices_of([10.0, -11.0, 12.0, 11.0]))
    with pytest.raises(
        BadPrices, match=r"VALE3: source=yahoo cannot be used: prices of zero or less: 1 \(2024-01-03\)"
    ):
        Downloader().prices("VALE3", "2024-01-02")
    assert cache.read(vale) is None


def test_repairs_are_told_and_the_repaired_table_is_cached(yahoo_says, prices_of, cache, vale):
    yahoo_says(prices_of([10.0, None, 12.0, 11.0]))
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert "VALE3: rows without a close: 1 (2024-01-03), repaired" in prices.warnings
    assert len(cache.read(vale)) == 3


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "Denied")])
def test_a_cache_that_cannot_be_written_costs_a_warning_only(yahoo_says, prices_of, home, monkeypatch, error):
    def refuse(*_):
        raise error

    yahoo_says(prices_of(CLOSES))
    monkeypatch.setattr(os, "fsync", refuse)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert len(prices.table) == 4
    assert prices.warnings == (f"VALE3: the prices were not cached in {home}/data/VALE3.csv ({error.strerror}).",)
    assert os.listdir(home / "data") == []


def test_a_corrupt_cache_is_told_kept_aside_and_replaced(yahoo_says, prices_of, cache, vale, caplog):
    cache.folder.mkdir(parents=True)
    cache.path(vale).write_text("date,close\n2024-01")
    yahoo_says(prices_of(CLOSES))
    assert Downloader().prices("VALE3", "2024-01-02").source == "yahoo"
    assert "The file is ignored" in caplog.text
    assert len(list(cache.folder.iterdir())) == 2


def test_a_range_without_rows_is_refused_with_the_range_that_the_source_has(tmp_path, prices_of, finished):
    finished("2024-01-05")
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    with pytest.raises(
        PricesUnavailable, match=r"csv: it has 2024-01-02\.\.2024-01-05, nothing from 2020-01-01 to 2020-12"
    ):
        Downloader("csv", tmp_path).prices("VALE3", "2020-01-01", "2020-12-31")


@pytest.mark.parametrize("name", ["csv", "sample"])
def test_a_users_file_and_the_sample_never_write_the_cache(name, tmp_path, prices_of, home, finished):
    finished("2024-01-05")
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    stock, path = ("VALE3", tmp_path) if name == "csv" else ("SP500", None)
    if name == "csv":
        Downloader(name, path).prices(stock, "2024-01-02")
    else:
        Downloader(name).prices(stock, "2018-01-02", "2018-06-01")
    assert not (home / "data").exists()


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(InvalidChoice, match=r"source=bloomberg is not known\. Allowed: auto, b3, csv, sample, yahoo"):
        Downloader("bloomberg")


def test_an_unknown_price_basis_is_refused_with_the_known_ones():
    with pytest.raises(InvalidChoice, match=r"data\.price=open is not known\. Allowed: adjusted, close\."):
        Downloader(price="open")


@pytest.mark.parametrize("source", ["auto", "yahoo", "sample"])
def test_a_path_for_a_source_that_reads_none_is_refused(source, tmp_path):
    with pytest.raises(InvalidChoice, match=rf"is not used by source={source}\. Use .*source=csv"):
        Downloader(source, tmp_path)


def test_tickers_and_dates_are_checked_before_any_source_is_asked(yahoo_says):
    asked = yahoo_says(OFFLINE)
    with pytest.raises(InvalidSymbol):
        Downloader().prices("../../etc/passwd", "2024-01-02")
    with pytest.raises(InvalidDates):
        Downloader().prices("VALE3", "2024-13-02")
    assert asked == []


def test_a_symbol_is_as_good_as_its_text(tmp_path, prices_of, finished):
    finished("2024-01-05")
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    assert Downloader("csv", tmp_path).prices(Symbol.parse("VALE3"), "2024-01-02").symbol.currency == "R$"


def test_the_real_yahoo_path_works_from_socket_to_cache(fake_yahoo, prices_of, finished, cache, vale):
    finished("2024-01-05")
    fake_yahoo.answer_prices(prices_of(CLOSES))
    prices = Downloader("yahoo").prices("VALE3", "2024-01-02")
    assert prices.closes["close"].tolist() == CLOSES
    assert len(cache.read(vale)) == 4


def test_real_vale3_has_1385_closes_and_the_exchanges_last_one(real_data):
    prices = Downloader("csv", real_data).prices("VALE3", "2020-01-01", "2025-07-27")
    exchange = Downloader("csv", real_data, "close").prices("VALE3", "2020-01-01", "2025-07-27")
    assert len(prices.closes) == len(exchange.closes) == 1385
    assert prices.closes["close"].iloc[-1] == exchange.closes["close"].iloc[-1]
    assert (prices.closes["close"].iloc[:1000] < exchange.closes["close"].iloc[:1000]).all()


def test_real_data_lacks_the_two_sessions_that_are_known_to_be_missing(real_data):
    prices = Downloader("csv", real_data).prices("VALE3", "2015-01-01", "2025-07-31")
    assert prices.warnings == ("VALE3: sessions missing: 2 (2017-05-29, 2020-11-20), warned",)


def test_the_latest_sessions_are_the_last_that_the_source_has(tmp_path, prices_of, finished):
    finished("2024-06-03")  # long after the file's end
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    downloader = Downloader("csv", tmp_path, "close")
    assert downloader.latest("VALE3", 3).closes["close"].tolist() == CLOSES[-3:]
    assert downloader.latest("VALE3", 30).closes["close"].tolist() == CLOSES


def test_the_latest_sessions_leave_out_the_unfinished_one(tmp_path, prices_of, finished):
    finished("2024-01-04")
    prices_of(CLOSES).to_csv(tmp_path / "VALE3.csv", index=False)
    assert Downloader("csv", tmp_path, "close").latest("VALE3", 2).as_of == date(2024, 1, 4)


@pytest.mark.parametrize("source", ["auto", "csv", "sample"])
def test_the_shared_model_has_no_prices(home, tmp_path, prices_of, yahoo_says, source):
    asked = yahoo_says(prices_of(CLOSES))
    prices_of(CLOSES).to_csv(tmp_path / "SHARED.csv", index=False)
    downloader = Downloader(source, tmp_path if source == "csv" else None)
    for ask in (lambda: downloader.latest("shared", 20), lambda: downloader.prices("SHARED", "2024-01-02")):
        with pytest.raises(
            UnknownStock, match=r"SHARED: .*It is the model of many stocks\. Name a stock, like VALE3\."
        ):
            ask()
    assert asked == []


@pytest.fixture
def fetched(home):
    """What an earlier source=b3 has left: the first sessions of 2024."""

    def leave(closes, volumes=(1000,) * 4):
        folder = home / "data" / "b3"
        folder.mkdir(parents=True)
        days = calendar.sessions("BVMF", date(2024, 1, 2), date(2024, 1, 5))
        rows = [record(day, close=close, volume=n) for day, close, n in zip(days, closes, volumes, strict=False)]
        (folder / "COTAHIST_A2024.TXT").write_bytes(text(rows, generated="20240105"))
        Store(folder / "store").update([folder / "COTAHIST_A2024.TXT"])

    return leave


def test_auto_falls_from_yahoo_to_what_b3_has_left_and_tells_each_step_once(yahoo_says, fetched, caplog):
    yahoo_says(OFFLINE)
    fetched(CLOSES)
    downloader = Downloader()
    with caplog.at_level(logging.INFO, logger="pregao"):
        prices = [downloader.prices("VALE3", "2024-01-02") for _ in range(2)][1]
    assert prices.closes["close"].tolist() == CLOSES
    assert prices.source_as_dict == {"name": "b3", "reasons": ["cache: none", "yahoo: no network"]}
    assert not prices.stale
    assert caplog.text.count("cache: none") == caplog.text.count("yahoo: no network") == 1
    assert "VALE3: prices from B3's own quotes, which end on 2024-01-05, because" in caplog.text


def test_the_latest_sessions_need_no_more_years_than_the_least_of_them(home, monkeypatch):
    asked = []

    def history(self, symbol, first, end):
        asked.append(first)
        raise PricesUnavailable(symbol, [], "")

    monkeypatch.setattr(Downloader, "_history", history)
    for least in (20, None):
        with pytest.raises(PricesUnavailable):
            Downloader("b3").latest("VALE3", 2000, least)
    finished = calendar.last_finished_session("BVMF")
    assert (finished - asked[0]).days < 100
    assert (finished - asked[1]).days > 3000


def test_auto_takes_b3s_quotes_only_where_they_are_newer_than_the_cache(yahoo_says, fetched, prices_of, cache, vale):
    cache.write(vale, prices_of(CLOSES[:3]))
    fetched(CLOSES[:3])
    yahoo_says(OFFLINE)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert (prices.source, prices.stale) == ("cache", True)
    assert prices.tried == (
        "cache: it ends on 2024-01-04, and later sessions are over",
        "yahoo: no network",
        "b3: the stored quotes end on 2024-01-04, not later than the cache",
    )


def test_auto_takes_newer_quotes_of_b3_before_a_stale_cache(yahoo_says, fetched, prices_of, cache, vale):
    cache.write(vale, prices_of(CLOSES[:3]))
    fetched(CLOSES)
    yahoo_says(UNKNOWN)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert (prices.source, prices.as_of) == ("b3", date(2024, 1, 5))
    assert prices.tried[1].startswith("yahoo: VALE3: Yahoo knows no such stock")


def test_auto_says_that_b3s_quotes_are_stale_where_sessions_are_over_that_they_lack(yahoo_says, fetched):
    yahoo_says(OFFLINE)
    fetched(CLOSES[:2])
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert (prices.source, prices.stale) == ("b3", True)


def test_auto_prefers_a_stale_cache_to_quotes_with_a_jump_like_a_split(yahoo_says, fetched, prices_of, cache, vale):
    cache.write(vale, prices_of([20.0, 20.1, 20.2]))
    fetched([20.0, 20.1, 20.2, 2.02], [1000, 1000, 1000, 10_000])
    yahoo_says(OFFLINE)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert (prices.source, prices.stale) == ("cache", True)
    assert "a jump looks like an unconfirmed split (10:1 on 2024-01-05)" in prices.tried[-1]


def test_auto_passes_b3s_quotes_over_where_a_year_that_was_asked_for_is_missing(yahoo_says, fetched):
    yahoo_says(OFFLINE)
    fetched(CLOSES)
    with pytest.raises(PricesUnavailable, match=r"b3: not downloaded yet: 2022, 2023"):
        Downloader().prices("VALE3", "2022-06-01")


def test_auto_fetches_nothing_from_b3(yahoo_says, monkeypatch):
    def never(*_):
        raise AssertionError("a forecast must not wait for a year of quotes")

    monkeypatch.setattr(Fetcher, "fetch", never)
    yahoo_says(OFFLINE)
    with pytest.raises(PricesUnavailable, match="b3: nothing downloaded yet"):
        Downloader().prices("VALE3", "2024-01-02")


def test_yahoos_answer_leaves_its_actions_for_b3(fake_yahoo, prices_of, finished, fetched, home, vale):
    """The fake answer has a dividend of 0.50 on the second day; B3's close before it is 10."""
    finished("2024-01-05")
    fake_yahoo.answer_prices(prices_of(CLOSES))
    Downloader("yahoo").prices("VALE3", "2024-01-02")
    assert ActionStore().read(vale, "yahoo").dividends == {date(2024, 1, 3): 0.5}
    (home / "data" / "VALE3.csv").unlink()
    fetched(CLOSES)
    fake_yahoo.answer(b"", status=429)
    prices = Downloader().prices("VALE3", "2024-01-02")
    assert prices.source == "b3"
    assert prices.closes["close"].tolist() == pytest.approx([9.5, 11.0, 12.0, 11.0])


def test_yahoos_actions_that_cannot_be_kept_cost_a_warning_only(fake_yahoo, prices_of, finished, home):
    finished("2024-01-05")
    fake_yahoo.answer_prices(prices_of(CLOSES))
    (home / "data").mkdir(parents=True)
    (home / "data" / "actions").write_text("a file where the folder should be")
    prices = Downloader("yahoo").prices("VALE3", "2024-01-02")
    assert "VALE3: Yahoo's splits and dividends were not stored for source=b3 (File exists)." in prices.warnings
