"""A worse answer, a passing error or a wrong split changes nothing that is stored."""

import errno
from datetime import date
from unittest.mock import Mock

import numpy as np
import pytest

from pregao.config import parse
from pregao.errors import BadPrices, BadQuotesFile, InvalidChoice, PricesUnavailable
from pregao.prices import calendar, report
from pregao.prices.actions import Actions, ActionStore
from pregao.prices.cache import refuse_worse
from pregao.prices.config import PricesConfig
from pregao.prices.cotahist import fetch, parser
from pregao.prices.downloader import Downloader
from pregao.prices.sources.b3 import B3Source
from pregao.prices.sources.csv import CsvSource
from pregao.prices.sources.yahoo import YahooSource
from pregao.training.steps import download
from tests.prices.conftest import prices_of, written
from tests.prices.records import put, year_of

KEPT = prices_of(list(np.linspace(50, 60, 40)))


@pytest.mark.parametrize(
    ("rows", "factors"),
    [(slice(40), [1, np.nan]), (slice(20, 40), 100), ([39], 100), (range(0, 12, 2), 100)],
    ids=["no adj_close", "×100 from a date on", "×100 in the last row", "six other rows"],
)
def test_an_answer_with_worse_prices_does_not_replace_the_cache(vale3, tmp_path, rows, factors):
    new = KEPT.copy()
    new.loc[new.index[rows], ["close", "adj_close"]] *= factors
    with pytest.raises(PricesUnavailable, match=r"yahoo: an answer with(out adj_close| other prices from 2024-)"):
        refuse_worse(vale3, new, KEPT, tmp_path)


def test_a_new_split_a_new_dividend_and_a_corrected_row_replace_the_cache(vale3, tmp_path):
    new = prices_of([*KEPT["close"] / 2, 30.5, 31])
    new["adj_close"] *= 0.97
    new.loc[5, "close"] *= 1.2
    refuse_worse(vale3, new, KEPT, tmp_path)


def test_actions_are_stored_only_with_the_prices_they_came_with(fake_yahoo, vale3, finished):
    finished(KEPT["date"].iloc[-1].date())
    fake_yahoo.answer_prices(KEPT)
    Downloader("yahoo").prices(vale3, "2024-01-02")
    known = ActionStore().read(vale3, "yahoo")
    assert known.dividends
    fake_yahoo.answer_prices(KEPT.assign(close=-1.0).head(2))
    with pytest.raises(BadPrices):
        Downloader("yahoo").prices(vale3, "2024-01-02")
    assert ActionStore().read(vale3, "yahoo") == known


def test_an_answer_without_known_actions_is_refused(vale3):
    source = YahooSource()
    source.actions = Actions(splits={date(2021, 9, 13): 2.0}, until=date(2024, 1, 2))
    assert source.accept(vale3) == ()
    source.actions = Actions(until=date(2024, 1, 3))
    with pytest.raises(PricesUnavailable, match=r"without 1 splits or dividends that are known \(2021-09-13\)"):
        source.accept(vale3)


def test_a_passing_read_error_renames_no_file(vale3, cache, folder, monkeypatch):
    cache.write(vale3, KEPT)
    quotes = put(folder / "COTAHIST_A2024.TXT", year_of(2024, [50.0, 51.0]))
    part = folder / "COTAHIST_A2024.ZIP.1.part"
    part.write_bytes(b"PK")
    refuse = Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", refuse)
        assert cache.read(vale3) is None
    monkeypatch.setattr(parser, "_opened", refuse)
    with pytest.raises(BadQuotesFile, match="Too many open files"):
        B3Source(None)._update_store()
    with pytest.raises(fetch.FetchFailed, match="Too many open files"):
        fetch._check(part, 2024)
    assert cache.read(vale3) is not None
    assert quotes.exists()
    assert part.exists()


@pytest.mark.parametrize(
    ("split", "refused"),
    [
        ("2030-01-02:2", "there was no session"),
        ("2024-01-06:2", "there was no session"),
        ("2024-01-05:0.5", "would enlarge the jump"),
        ("2024-01-09:2", "a split of 2 on 2024-01-04 is known"),
        ("2024-01-03:2", "a split of 2 on 2024-01-04 is known"),
    ],
)
def test_a_split_is_confirmed_only_if_it_removes_a_jump(vale3, stored, split, refused):
    stored([50.0] * 3 + [25.0] * 9)
    if refused.startswith("a split"):
        ActionStore().write(vale3, "yahoo", Actions(splits={date(2024, 1, 4): 2.0}))
    with pytest.raises(InvalidChoice, match=refused):
        report.confirm(vale3, split)
    assert not ActionStore().read(vale3, "confirmed").splits
    ActionStore().write(vale3, "yahoo", Actions())
    report.confirm(vale3, "2024-01-05:2")
    assert ActionStore().read(vale3, "confirmed").splits == {date(2024, 1, 5): 2.0}


def test_rows_without_adj_close_are_left_out_of_adjusted_prices_only(vale3, tmp_path):
    table = prices_of([50.0, 51, 52, 53])
    table.loc[1, "adj_close"] = np.nan
    folder = written(tmp_path, table)
    adjusted = Downloader("csv", folder).prices(vale3, "2024-01-02")
    assert len(adjusted.table) == 3
    assert any("without adj_close: 1 (2024-01-03), left out" in warning for warning in adjusted.warnings)
    assert len(Downloader("csv", folder, "close").prices(vale3, "2024-01-02").table) == 4
    table.loc[3, "adj_close"] = np.nan
    with pytest.raises(BadPrices, match=r"data\.price=close"):
        Downloader("csv", written(tmp_path, table)).prices(vale3, "2024-01-02")


@pytest.mark.parametrize(("last", "stale"), [("2024-01-12", False), ("2024-01-22", True)])
def test_a_source_that_ended_ten_sessions_ago_is_stale(vale3, tmp_path, finished, last, stale):
    finished(last)
    assert Downloader("csv", written(tmp_path, prices_of([50.0] * 5))).prices(vale3, "2024-01-02").stale is stale


def test_one_file_is_not_read_for_several_stocks_and_another_tickers_file_is_named(vale3, tmp_path):
    file = (written(tmp_path, KEPT) / "VALE3.csv").rename(tmp_path / "PETR4.csv")
    prices = Downloader("csv", file).prices(vale3, "2024-01-02")
    assert any("PETR4.csv, the file of another ticker" in warning for warning in prices.warnings)
    assert CsvSource(file).notes == ()
    with pytest.raises(InvalidChoice, match="is one file, and 2 stocks are asked for"):
        download(Downloader("csv", file), [vale3, vale3], (date(2024, 1, 2), None), 30)


def test_a_daily_file_does_not_complete_its_year(vale3, folder):
    put(folder / "COTAHIST_D02012024.TXT", year_of(2024, [50.0]))
    source = B3Source(None, date(2024, 1, 2))
    source._update_store()
    with pytest.raises(PricesUnavailable, match=r"b3: (not|nothing) downloaded yet"):
        source.stored(vale3)


def test_a_year_that_b3_has_not_published_yet_is_a_note(vale3, folder, b3, finished):
    year = date.today().year
    put(folder / f"COTAHIST_A{year - 1}.TXT", year_of(year - 1, [50.0] * 300))
    finished(calendar.next_sessions("BVMF", date(year - 1, 12, 31), 1)[0])
    prices = Downloader("b3").prices(vale3, date(year - 1, 1, 1))
    assert prices.as_of.year == year - 1
    assert any(f"there is no file of {year} yet" in warning for warning in prices.warnings)


def test_yahoos_rate_limit_is_not_asked_again_within_seconds(fake_yahoo, vale3):
    fake_yahoo.answer({"finance": {"error": {"code": "Too Many Requests"}}}, 429)
    with pytest.raises(PricesUnavailable, match="rate limit"):
        YahooSource(pause=0.01).history(vale3)
    assert fake_yahoo.charts_asked <= 2, "yfinance itself asks twice, with another cookie"


def test_against_csv_names_its_own_key(vale3, mine):
    given = {"stock": "VALE3", "start": "2024-01-02", "end": None, "price": "close", "against": "csv"}
    given |= {"against_path": None, "tolerance": 0.1, "confirm": None, "source": {"name": "csv", "path": str(mine)}}
    with pytest.raises(InvalidChoice, match=r"against=csv needs against_path=: "):
        report.load(parse(PricesConfig, given))
