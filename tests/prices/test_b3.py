"""source=b3: a user's folder as it is, or years fetched from an address, resumed, checked and never fetched twice."""

import logging
import os
import socket
import time
from datetime import date, timedelta
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from pregao.errors import BadQuotesFile, InvalidChoice, PricesUnavailable, UnknownStock
from pregao.prices import Downloader, Symbol
from pregao.prices.actions import Actions, ActionStore
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.sources.b3 import B3Source
from tests.prices.records import record, text, year_of, zipped

NOW = date(2024, 1, 5)  # the last finished session, a Friday
WRITTEN = parsedate_to_datetime("Mon, 08 Jan 2024 21:00:00 GMT").timestamp()
PAGE = b"<!DOCTYPE html><html><body>Access denied</body></html>"


class FakeB3:
    """Serves files, as B3's server does: with Last-Modified, ranges and conditions."""

    def __init__(self):
        self.files = {}
        self.asked = []
        self.status = 200
        self.break_after = None
        self.delay = 0.0
        self.stall_after = None
        self.modified = WRITTEN
        self.kind = "application/x-zip-compressed"
        self.closing = Event()

    def put(self, name, content, folder):
        self.files[f"/{name}"] = (
            zipped(folder / "served.zip", content).read_bytes() if name.endswith("ZIP") else content
        )


@pytest.fixture
def b3(monkeypatch):
    fake = FakeB3()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            fake.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Modified-Since")))
            fake.closing.wait(fake.delay)
            content = fake.files.get(self.path)
            if fake.status != 200 or content is None:
                self.send_error(fake.status if fake.status != 200 else 404)
                return
            modified = formatdate(fake.modified, usegmt=True)
            if self.headers.get("If-Modified-Since") == modified:
                self.send_response(304)
                self.end_headers()
                return
            first = 0
            if self.headers.get("Range") and self.headers.get("If-Range") == modified:
                first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Type", fake.kind)
            self.send_header("Last-Modified", modified)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            self.wfile.write(content[first : fake.break_after])
            if fake.stall_after is not None:
                fake.closing.wait(10)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("PREGAO_B3_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(B3Source, "fetcher", Fetcher(timeout=1, deadline=5, attempts=2, pause=0.01))
    yield fake
    fake.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(b3, tmp_path, finished):
    """2023 whole, 2024 up to the last finished session."""
    finished(str(NOW))
    whole = year_of(2023, [10 + i / 100 for i in range(300)])
    b3.put("COTAHIST_A2023.ZIP", text(whole, generated="20240102"), tmp_path)
    b3.put("COTAHIST_A2024.ZIP", text(year_of(2024, [20.0, 21.0, 22.0, 23.0]), generated="20240105"), tmp_path)
    return b3


def folder(home) -> Path:
    return home / "data" / "b3"


def names(home):
    return sorted(path.name for path in folder(home).iterdir() if not path.name.startswith(".") and path.is_file())


def refused(symbol, since=NOW):
    with pytest.raises(PricesUnavailable) as refusal:
        B3Source(None, since).history(symbol)
    (tried,) = refusal.value.tried
    return tried


def test_missing_years_are_fetched_kept_zipped_and_never_fetched_again(published, home, vale):
    table = B3Source(None, date(2023, 6, 1)).history(vale)
    assert (table["date"].iloc[0].date(), table["date"].iloc[-1].date()) == (date(2023, 1, 2), NOW)
    assert names(home) == ["COTAHIST_A2023.ZIP", "COTAHIST_A2024.ZIP"]
    assert len(published.asked) == 2
    again = B3Source(None, date(2023, 6, 1)).history(vale)
    assert again.equals(table)
    assert len(published.asked) == 2


def test_only_the_years_that_are_needed_are_fetched(published, home):
    prices = Downloader("b3").prices("VALE3", "2024-01-03")
    assert prices.closes["close"].tolist() == [21.0, 22.0, 23.0]
    assert [path for path, *_ in published.asked] == ["/COTAHIST_A2024.ZIP"]
    assert Downloader("b3").latest("VALE3", 3).closes["close"].tolist() == [21.0, 22.0, 23.0]
    assert [path for path, *_ in published.asked] == ["/COTAHIST_A2024.ZIP", "/COTAHIST_A2023.ZIP"]
    assert not (home / "data" / "VALE3.csv").exists()


def test_the_year_that_goes_on_is_asked_for_again_once_a_session_is_over(published, home, vale, finished, tmp_path):
    B3Source(None, NOW).history(vale)
    finished("2024-01-08")
    hour_ago = time.time() - 3601
    os.utime(folder(home) / ".COTAHIST_A2024.ZIP.asked", (hour_ago, hour_ago))
    assert len(B3Source(None, NOW).history(vale)) == 4  # B3 has not written it yet
    assert published.asked[-1] == ("/COTAHIST_A2024.ZIP", None, "Mon, 08 Jan 2024 21:00:00 GMT")
    B3Source(None, NOW).history(vale)
    assert len(published.asked) == 2  # asked within the hour
    os.utime(folder(home) / ".COTAHIST_A2024.ZIP.asked", (hour_ago, hour_ago))
    published.modified += 86400
    more = year_of(2024, [20.0, 21.0, 22.0, 23.0, 24.0])
    published.put("COTAHIST_A2024.ZIP", text(more, generated="20240108"), tmp_path)
    assert len(B3Source(None, NOW).history(vale)) == 5
    assert names(home) == ["COTAHIST_A2024.ZIP"]


def test_a_year_that_was_fetched_before_its_end_is_completed_in_the_next(published, home, vale, finished, tmp_path):
    finished("2023-01-04")
    early = text(year_of(2023, [10.0, 10.1, 10.2]), generated="20230104")
    published.put("COTAHIST_A2023.ZIP", early, tmp_path)
    assert len(B3Source(None, date(2023, 1, 4)).history(vale)) == 3
    finished(str(NOW))
    os.utime(folder(home) / ".COTAHIST_A2023.ZIP.asked", (0, 0))
    published.modified += 86400
    published.put("COTAHIST_A2023.ZIP", text(year_of(2023, [10.0] * 300), generated="20240102"), tmp_path)
    assert len(B3Source(None, date(2023, 1, 4)).history(vale)) > 240


def test_a_download_that_broke_off_goes_on_where_it_did(published, home, vale):
    published.break_after = 150
    source = B3Source(None, NOW)
    with pytest.raises(PricesUnavailable, match=r"the transfer ended after 1?[0-9]{2,3} of [0-9,]+ bytes"):
        source.history(vale)
    (part,) = folder(home).glob("*.part")
    assert part.stat().st_size >= 150
    published.break_after = None
    had = part.stat().st_size
    assert len(B3Source(None, NOW).history(vale)) == 4
    assert published.asked[-1][1] == f"bytes={had}-"
    assert names(home) == ["COTAHIST_A2024.ZIP"]


def test_a_part_of_another_days_file_is_not_joined(published, home, vale, tmp_path):
    published.break_after = 150
    refused(vale)
    published.break_after = None
    published.modified += 86400
    assert len(B3Source(None, NOW).history(vale)) == 4
    assert not list(folder(home).glob("*.part"))


def test_a_part_longer_than_the_file_is_thrown_away(published, home, vale):
    folder(home).mkdir(parents=True)
    part = folder(home) / f"COTAHIST_A2024.ZIP.{int(WRITTEN)}.part"
    part.write_bytes(bytes(100_000))
    assert len(B3Source(None, NOW).history(vale)) == 4


@pytest.mark.parametrize(
    ("status", "attempts", "reason"),
    [(404, 1, "no such file (HTTP 404)"), (403, 1, "HTTP 403"), (503, 2, "HTTP 503")],
)
def test_a_refusal_of_the_server_names_address_and_status(published, vale, status, attempts, reason):
    published.status = status
    address = os.environ["PREGAO_B3_ADDRESS"]
    assert refused(vale) == f"b3: {address}/COTAHIST_A2024.ZIP: {reason}"
    assert len(published.asked) == attempts


def test_a_web_page_instead_of_a_zip_is_said_to_be_one(published, home, vale):
    published.files["/COTAHIST_A2024.ZIP"] = PAGE
    published.kind = "text/html; charset=utf-8"
    assert refused(vale).endswith("the answer is a web page (text/html), not a zip")
    assert names(home) == []


def test_a_server_that_does_not_answer_is_given_up_once_the_time_is_over(published, vale):
    published.delay = 20
    begin = time.monotonic()
    assert refused(vale).endswith("no answer in 1 s")
    assert time.monotonic() - begin < 3


def test_a_server_that_falls_silent_in_the_middle_is_given_up_and_what_came_is_kept(published, home, vale):
    published.break_after, published.stall_after = 150, 150
    assert refused(vale).endswith("no data for 1 s")
    (part,) = folder(home).glob("*.part")
    assert part.stat().st_size >= 150


def test_a_file_that_takes_longer_than_the_deadline_is_left_for_the_next_call(published, vale, monkeypatch):
    monkeypatch.setattr(B3Source, "fetcher", Fetcher(timeout=1, deadline=0, attempts=1))
    assert "the next call resumes" in refused(vale)


def test_no_connection_is_said_so(vale, home, finished, monkeypatch):
    finished(str(NOW))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREGAO_B3_ADDRESS", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(B3Source, "fetcher", Fetcher(attempts=1))
    assert "no connection (" in refused(vale)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            text(year_of(2024, [1.0]), counted=1745),
            "the received file cannot be used: its trailer counts 1,745 records",
        ),
        (b"no quotes", "the received file cannot be used: it is not COTAHIST"),
        (text(year_of(2022, [1.0])), "the received file is of the year 2022"),
    ],
    ids=["cut short", "something else", "another year"],
)
def test_what_fails_its_own_check_is_never_taken_over(published, home, vale, tmp_path, content, reason):
    published.put("COTAHIST_A2024.ZIP", content, tmp_path)
    assert reason in refused(vale)
    assert names(home) == []
    assert not list(folder(home).glob("*.part"))


def test_where_the_year_cannot_be_renewed_the_one_at_hand_is_used_and_said_to_be_stale(published, home, finished):
    Downloader("b3").prices("VALE3", "2024-01-02")
    finished("2024-01-08")
    os.utime(folder(home) / ".COTAHIST_A2024.ZIP.asked", (0, 0))
    published.status = 404
    prices = Downloader("b3").prices("VALE3", "2024-01-02")
    assert (prices.stale, prices.as_of) == (True, NOW)
    assert "COTAHIST_A2024.ZIP, which ends on 2024-01-05, could not be renewed" in prices.warnings[0]


def test_a_damaged_file_of_ours_is_set_aside_and_fetched_anew(published, home, vale, caplog):
    folder(home).mkdir(parents=True)
    (folder(home) / "COTAHIST_A2024.ZIP").write_bytes(b"PK\x03\x04 half a zip")
    assert len(B3Source(None, NOW).history(vale)) == 4
    assert "the zip is damaged" in caplog.text
    assert len(list(folder(home).glob("COTAHIST_A2024.corrupt-*"))) == 1


def test_a_file_put_there_by_hand_spares_the_fetching(published, home, vale):
    folder(home).mkdir(parents=True)
    (folder(home) / "cotahist_a2024.txt").write_bytes(text(year_of(2024, [30.0, 31.0, 32.0, 33.0])))
    assert B3Source(None, NOW).history(vale)["close"].tolist() == [30.0, 31.0, 32.0, 33.0]
    assert published.asked == []


def test_a_daily_file_brings_the_year_up_to_date(published, home, vale, finished):
    B3Source(None, NOW).history(vale)
    finished("2024-01-08")
    (folder(home) / "COTAHIST_D08012024.TXT").write_bytes(
        text([record(date(2024, 1, 8), close=24.0)], generated="20240108")
    )
    assert B3Source(None, NOW).history(vale)["close"].tolist()[-1] == 24.0
    assert len(published.asked) == 1


@pytest.fixture
def mine(tmp_path, finished):
    """A user's folder: a year, a month and a day."""
    finished("2024-02-01")
    files = tmp_path / "mine"
    files.mkdir()
    year = year_of(2024, [20.0, 21.0, 22.0, 23.0])
    (files / "COTAHIST_A2024.TXT").write_bytes(text(year, generated="20240105", newline="\n"))
    zipped(files / "COTAHIST_M012024.ZIP", text(year_of(2024, [20.0 + i for i in range(22)]), generated="20240131"))
    (files / "COTAHIST_D01022024.TXT").write_bytes(text([record(date(2024, 2, 1), close=50.0)], generated="20240201"))
    (files / "notes.txt").write_text("mine")
    return files


def test_yearly_monthly_and_daily_files_of_a_folder_are_read_as_one(mine, b3, home):
    prices = Downloader("b3", mine).prices("VALE3", "2024-01-01")
    assert prices.closes["close"].tolist() == [20.0 + i for i in range(22)] + [50.0]
    assert (prices.source, prices.stale, b3.asked) == ("b3", False, [])
    assert sorted(path.name for path in mine.iterdir()) == [
        "COTAHIST_A2024.TXT",
        "COTAHIST_D01022024.TXT",
        "COTAHIST_M012024.ZIP",
        "notes.txt",
    ]


def test_one_file_is_enough(mine):
    closes = Downloader("b3", mine / "COTAHIST_A2024.TXT").closes("VALE3", "2024-01-01")
    assert closes["close"].tolist() == [20.0, 21.0, 22.0, 23.0]


def test_a_bad_file_in_a_users_folder_is_refused_and_left_alone(mine):
    (mine / "COTAHIST_D02022024.TXT").write_bytes(text([record(date(2024, 2, 1))], counted=1745))
    with pytest.raises(
        BadQuotesFile, match=r"COTAHIST_D02022024\.TXT: this file cannot be used: its trailer counts 1,745"
    ):
        Downloader("b3", mine).prices("VALE3", "2024-01-01")
    assert (mine / "COTAHIST_D02022024.TXT").exists()


def test_a_folder_without_quotes_is_refused(tmp_path, vale):
    with pytest.raises(PricesUnavailable, match=r"has no file like COTAHIST_A2024\.ZIP"):
        B3Source(tmp_path).history(vale)


def test_a_path_that_does_not_exist_is_refused_at_once():
    with pytest.raises(InvalidChoice, match=r"source\.path=/nowhere does not exist\. Give a folder of B3's COTAHIST"):
        Downloader("b3", "/nowhere")


def test_a_stock_that_was_not_traded_is_unknown_with_the_years_that_were_looked_at(mine):
    with pytest.raises(UnknownStock, match=r"PETR4: b3 knows no such stock \(asked the cash market of 2024\)"):
        Downloader("b3", mine).prices("PETR4", "2024-01-01")


def test_a_foreign_index_is_unknown_without_a_fetch(b3):
    with pytest.raises(UnknownStock, match="Use source=sample for SP500"):
        Downloader("b3").prices("SP500", "2010-01-01")
    assert b3.asked == []


def test_known_splits_and_dividends_are_taken_into_account(mine, vale, caplog):
    ActionStore().write(
        vale,
        "yahoo",
        Actions(splits={date(2024, 2, 1): 2.0}, dividends={date(2024, 1, 3): 2.0}, until=date(2024, 2, 1)),
    )
    prices = Downloader("b3", mine, "close").prices("VALE3", "2024-01-01")
    assert prices.closes["close"].tolist()[:2] == [10.0, 10.5]
    adjusted = Downloader("b3", mine).prices("VALE3", "2024-01-01")
    assert adjusted.closes["close"].tolist()[:2] == [pytest.approx(8.0), 10.5]
    assert "dividends" not in caplog.text


def test_unknown_dividends_stay_in_the_prices_and_that_is_said(mine, caplog):
    marked = [
        record(date(2024, 2, 2), close=49.0, especi="ON  ED  NM"),
        record(date(2024, 2, 5), close=49.5, especi="ON  ED  NM"),
    ]
    (mine / "COTAHIST_M022024.TXT").write_bytes(text(marked, generated="20240229"))
    downloader = Downloader("b3", mine)
    prices = downloader.prices("VALE3", "2024-01-01")
    assert prices.closes["close"].tolist()[0] == 20.0
    assert "VALE3: dividends are unknown; B3 marks 1 without their amounts (2024-02-02)" in caplog.text
    assert "VALE3: b3 has no adj_close: close is used, not adjusted for dividends." in prices.warnings


def test_a_bonus_that_b3_marks_is_listed_until_it_is_confirmed(mine, vale, finished, caplog):
    finished("2024-02-02")
    marked = [record(date(2024, 2, 2), close=45.0, especi="ON  EB  NM")]
    (mine / "COTAHIST_D02022024.TXT").write_bytes(text(marked, generated="20240202"))
    assert Downloader("b3", mine).prices("VALE3", "2024-01-01").closes["close"].tolist()[0] == 20.0
    assert "B3 marks a bonus or reverse split on 2024-02-02 that is not confirmed" in caplog.text
    caplog.clear()
    ActionStore().confirm(vale, date(2024, 2, 2), 1.1)
    closes = Downloader("b3", mine).prices("VALE3", "2024-01-01").closes["close"]
    assert closes.tolist()[0] == pytest.approx(20.0 / 1.1)
    assert "B3 marks a bonus" not in caplog.text


def test_a_split_that_nobody_knows_is_listed_and_never_applied(tmp_path, finished):
    finished("2024-02-29")
    closes = [20.0 + i / 10 for i in range(20)] + [11.0 + i / 10 for i in range(20)]
    records = [
        record(timestamp, close=close, volume=1000 if row < 20 else 2000)
        for row, (timestamp, close) in enumerate(zip(sessions_of_2024(), closes, strict=False))
    ]
    (tmp_path / "COTAHIST_A2024.TXT").write_bytes(text(records, generated="20240229"))
    prices = Downloader("b3", tmp_path).prices("VALE3", "2024-01-01")
    assert prices.closes["close"].tolist() == closes
    day = records[20][2:10]
    said = f"jumps like a 2:1 split that the prices are not adjusted for: 1 ({day[:4]}-{day[4:6]}-{day[6:]})"
    assert any(said in warning for warning in prices.warnings)


def sessions_of_2024():
    from pregao.prices import calendar

    return list(calendar.sessions("BVMF", date(2024, 1, 1), date(2024, 2, 29)))


def test_two_at_once_fetch_each_year_once(published, vale):
    tables = []
    threads = [Thread(target=lambda: tables.append(B3Source(None, NOW).history(vale))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(table) for table in tables] == [4, 4, 4]
    assert len(published.asked) == 1


def test_progress_is_logged(published, vale, caplog):
    with caplog.at_level(logging.INFO, logger="pregao"):
        B3Source(None, NOW).history(vale)
    assert "COTAHIST_A2024.ZIP: downloading" in caplog.text


def test_the_real_folder_is_refused_for_its_first_bad_file_and_a_good_one_is_read(real_quotes, home):
    with pytest.raises(BadQuotesFile, match=r"COTAHIST_A2024_first50\.TXT"):
        Downloader("b3", real_quotes).prices("VALE3", "2021-01-01")
    for name, day, close in (
        ("COTAHIST_D08112024.ZIP", "2024-11-08", 60.63),
        ("COTAHIST_D25062021.TXT", "2021-06-25", 112.4),
    ):
        prices = Downloader("b3", real_quotes / name, "close").prices(Symbol.parse("VALE3"), day, day)
        assert prices.closes["close"].tolist() == [close]


def test_the_real_truncated_sample_is_refused_with_both_numbers(real_quotes):
    with pytest.raises(BadQuotesFile, match=r"1,745 records, .* 506 \(504 quotes\)"):
        Downloader("b3", real_quotes / "COTAHIST_D04012016_truncated.TXT").prices("VALE3", "2016-01-01")


def test_years_before_the_real_are_not_asked_for(published, vale):
    with pytest.raises(PricesUnavailable):
        B3Source(None, date(1900, 1, 1)).history(vale)
    assert [path for path, *_ in published.asked] == ["/COTAHIST_A1994.ZIP"]


def test_a_week_is_enough_for_a_year_that_has_hardly_begun(b3, finished, tmp_path, vale):
    """On 2 January there is no file of the new year yet: its first session must be over first."""
    finished("2023-12-28")
    whole = year_of(2023, [10.0] * 300)
    b3.put("COTAHIST_A2023.ZIP", text(whole, generated="20231228"), tmp_path)
    since = date(2023, 12, 28) - timedelta(days=10)
    assert B3Source(None, since).history(vale)["date"].iloc[-1].date() == date(2023, 12, 28)
    assert [path for path, *_ in b3.asked] == ["/COTAHIST_A2023.ZIP"]
