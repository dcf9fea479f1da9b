"""source=b3: the user's folder, or years downloaded from an address, resumed, checked, never downloaded twice."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from pregao.errors import BadQuotesFile, InvalidChoice, PricesUnavailable, UnknownStock
from pregao.prices import Downloader
from pregao.prices.actions import Actions, ActionStore
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.sources.b3 import B3Source
from tests.prices.conftest import NOW
from tests.prices.records import put, record, text, year_of, zipped

YEAR = "COTAHIST_A2024.ZIP"


def history(symbol, since=NOW):
    return B3Source(None, since).history(symbol)


def refused(symbol):
    with pytest.raises(PricesUnavailable) as refusal:
        history(symbol)
    (tried,) = refusal.value.tried
    return tried


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def paths(b3):
    return [path for path, *_ in b3.asked]


def an_hour_later(folder, name=YEAR):
    os.utime(folder / f".{name}.asked", (time.time() - 3601,) * 2)


def test_missing_years_are_downloaded_once_and_only_those_that_are_needed(published, home, folder, vale3):
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(len, pool.map(history, [vale3] * 3))) == [4, 4, 4]
    prices = Downloader("b3").prices("VALE3", "2024-01-03")
    assert prices.closes["close"].tolist() == [21.0, 22.0, 23.0]
    assert paths(published) == [f"/{YEAR}"]
    assert Downloader("b3").latest("VALE3", 3).closes["close"].tolist() == [21.0, 22.0, 23.0]
    table = history(vale3, date(2023, 6, 1))
    assert (table["date"].iloc[0].date(), table["date"].iloc[-1].date()) == (date(2023, 1, 2), NOW)
    assert paths(published) == [f"/{YEAR}", "/COTAHIST_A2023.ZIP"]
    assert names(folder) == ["COTAHIST_A2023.ZIP", YEAR]
    assert not (home / "data" / "VALE3.csv").exists()


def test_the_current_year_is_requested_again_after_a_session_and_an_hour(published, folder, vale3, finished):
    history(vale3)
    finished("2024-01-08")
    history(vale3)
    assert len(published.asked) == 1
    an_hour_later(folder)
    assert len(history(vale3)) == 4  # B3 has no newer file yet
    assert published.asked[1:] == [(f"/{YEAR}", None, "Mon, 08 Jan 2024 21:00:00 GMT")]
    an_hour_later(folder)
    published.modified += 86400
    published.publish(2024, text(year_of(2024, [20.0, 21.0, 22.0, 23.0, 24.0]), generated="20240108"))
    assert len(history(vale3)) == 5
    an_hour_later(folder)
    finished("2024-01-09")
    published.status = 404
    prices = Downloader("b3").prices("VALE3", "2024-01-02")
    assert (prices.stale, str(prices.as_of)) == (True, "2024-01-08")
    assert f"{YEAR}, which ends on 2024-01-08, could not be renewed" in prices.warnings[0]


def test_a_year_is_complete_only_if_its_file_was_written_later(published, folder, vale3, finished):
    finished("2023-01-04")
    published.publish(2023, text(year_of(2023, [10.0, 10.1, 10.2]), generated="20230104"))
    assert len(history(vale3, date(2023, 1, 4))) == 3
    finished(NOW)
    published.modified += 86400
    published.publish(2023, text(year_of(2023, [10.0] * 247), generated="20240102"))  # without the last session
    for _ in range(2):
        an_hour_later(folder, "COTAHIST_A2023.ZIP")
        assert len(history(vale3, date(2023, 1, 4))) == 247 + 4
    assert paths(published) == ["/COTAHIST_A2023.ZIP"] * 2 + [f"/{YEAR}"]


@pytest.mark.parametrize(("seconds", "ranges"), [(0, True), (86400, True), (0, False)])
def test_an_interrupted_download_resumes_if_the_server_does_and_the_file_is_the_same(
    published, folder, vale3, seconds, ranges
):
    published.break_after = 150
    assert "the transfer ended after " in refused(vale3)
    (part,) = folder.glob("*.part")
    size = part.stat().st_size
    assert size >= 150
    published.break_after, published.ranges = None, ranges
    published.modified += seconds
    assert len(history(vale3)) == 4
    assert published.asked[-1][1] == f"bytes={size}-"
    assert names(folder) == [YEAR]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (429, 2), (503, 2)])
def test_only_transient_http_errors_are_retried(published, vale3, status, attempts):
    published.status = status
    reason = refused(vale3)
    assert reason.startswith(f"b3: {os.environ['PREGAO_B3_ADDRESS']}/{YEAR}: ")
    assert f"HTTP {status}" in reason
    assert len(published.asked) == attempts


def test_a_server_that_does_not_answer_is_left_after_the_time_limit(published, vale3, monkeypatch):
    published.hangs = True
    monkeypatch.setattr(B3Source, "fetcher", Fetcher(attempts=1, timeout=0.2))
    assert refused(vale3).endswith("no answer in 0.2 s")


PAGE = b"<!DOCTYPE html><html><body>Access denied</body></html>"


@pytest.mark.parametrize(
    ("served", "kind", "reason"),
    [
        (zipped(text(year_of(2024, [1.0]), counted=1745)), "", "its trailer counts 1,745 records"),
        (zipped(b"no quotes"), "", "it is not COTAHIST"),
        (zipped(text(year_of(2022, [1.0]))), "", "of the year 2022"),
        (PAGE, "text/html; charset=utf-8", "a web page (text/html)"),
    ],
)
def test_a_wrong_file_is_never_stored(published, folder, vale3, served, kind, reason):
    published.kind = kind or published.kind
    published.files[f"/{YEAR}"] = served
    assert reason in refused(vale3)
    assert names(folder) == []


def test_files_that_the_user_adds_replace_the_download_unless_damaged(published, folder, vale3, finished, caplog):
    (folder / "COTAHIST_A2022.ZIP").write_bytes(b"PK\x03\x04 half a zip")
    put(folder / "cotahist_a2024.txt", year_of(2024, [30.0, 31.0, 32.0, 33.0]))
    assert history(vale3)["close"].tolist() == [30.0, 31.0, 32.0, 33.0]
    finished("2024-01-08")
    put(folder / "COTAHIST_D08012024.TXT", [record(date(2024, 1, 8), close=24.0)], generated="20250108")
    assert history(vale3)["close"].tolist()[-1] == 24.0
    assert published.asked == []
    assert "the zip is damaged" in caplog.text
    assert len(list(folder.glob("COTAHIST_A2022.corrupt-*"))) == 1


@pytest.fixture
def quotes(tmp_path, finished):
    """The user's folder: a year, a month and a day."""
    finished("2024-02-02")
    files = tmp_path / "quotes"
    files.mkdir()
    year = text(year_of(2024, [20.0, 21.0, 22.0, 23.0]), generated="20240105", newline="\n")
    (files / "COTAHIST_A2024.TXT").write_bytes(year)
    month = text(year_of(2024, [20.0 + i for i in range(22)]), generated="20240131")
    (files / "COTAHIST_M012024.ZIP").write_bytes(zipped(month))
    add_day(files, 1, 50.0)
    (files / "notes.txt").write_text("mine")
    return files


def add_day(quotes, day, close, especi="ON      NM", dismes=100):
    """The file of a day of February."""
    records = [record(date(2024, 2, day), close=close, especi=especi, dismes=dismes)]
    put(quotes / f"COTAHIST_D0{day}022024.TXT", records, generated=f"2024020{day}")


def test_yearly_monthly_and_daily_files_of_a_folder_are_merged_without_the_network(quotes, b3):
    files = names(quotes)
    prices = Downloader("b3", quotes).prices("VALE3", "2024-01-01")
    assert prices.closes["close"].tolist() == [20.0 + i for i in range(22)] + [50.0]
    assert (prices.source, prices.stale, b3.asked, names(quotes)) == ("b3", False, [], files)
    closes = Downloader("b3", quotes / "COTAHIST_A2024.TXT").closes("VALE3", "2024-01-01")
    assert closes["close"].tolist() == [20.0, 21.0, 22.0, 23.0]


def test_what_a_folder_lacks_or_has_damaged_is_refused(quotes, mine, b3, tmp_path):
    with pytest.raises(InvalidChoice, match="/nowhere"):
        Downloader("b3", "/nowhere")
    bad = put(tmp_path / "COTAHIST_D02022024.TXT", [record(date(2024, 2, 1))], counted=1745)
    for error, found, path, stock in (
        (UnknownStock, "asked the cash market of 2024", quotes, "PETR4"),
        (UnknownStock, "source=sample", None, "SP500"),
        (PricesUnavailable, "no file like", mine, "VALE3"),
        (BadQuotesFile, bad.name, tmp_path, "VALE3"),
    ):
        with pytest.raises(error, match=found):
            Downloader("b3", path).prices(stock, "2024-01-01")
    assert bad.exists()
    assert b3.asked == []


def test_known_actions_adjust_the_prices_and_marked_ones_are_reported_until_they_are_known(quotes, vale3):
    for day, dismes in (1, 100), (2, 101), (5, 101), (6, 102):
        add_day(quotes, day, 49.0, "ON  ED  NM", dismes)
    warning = Downloader("b3", quotes).prices("VALE3", "2024-02-02").warnings[0]
    assert "dividends are unknown; B3 marks 2 without their amounts (2024-02-02, 2024-02-06)" in warning
    add_day(quotes, 2, 45.0, "ON  EB  NM")
    assert "B3 marks a bonus" in Downloader("b3", quotes).prices("VALE3", "2024-01-01").warnings[0]
    split, paid = {date(2024, 2, 1): 2.0}, {date(2024, 1, 3): 2.0}
    ActionStore().write(vale3, "yahoo", Actions(splits=split, dividends=paid, until=date(2024, 2, 2)))
    for price, first in ("close", 10.0), ("adjusted", 8.0):
        prices = Downloader("b3", quotes, price).prices("VALE3", "2024-01-01")
        assert prices.closes["close"].iloc[0] == pytest.approx(first)
        assert "B3 marks a bonus" not in "".join(prices.warnings)  # Yahoo covers the marked day
    ActionStore().write(vale3, "yahoo", Actions())
    ActionStore().confirm(vale3, date(2024, 2, 2), 1.1)
    prices = Downloader("b3", quotes).prices("VALE3", "2024-01-01")
    assert prices.closes["close"].iloc[0] == pytest.approx(20.0 / 1.1)
    assert "B3 marks a bonus" not in "".join(prices.warnings)
