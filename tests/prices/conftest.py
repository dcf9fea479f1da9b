"""Small tables, a separate home for each test, and local servers of Yahoo and B3."""

import errno
import json
import os
from contextlib import contextmanager, suppress
from datetime import date
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from unittest.mock import Mock
from urllib.parse import urlsplit

import pandas as pd
import pytest

from pregao.prices import calendar
from pregao.prices.cache import Cache
from pregao.prices.cotahist.fetch import Fetcher
from pregao.prices.cotahist.store import Store
from pregao.prices.sources import yahoo
from pregao.prices.sources.b3 import B3Source
from pregao.prices.table import shaped
from tests.prices.records import put, text, year_of, zipped

CLOSES = [10.0, 11.0, 12.0, 11.0]  # 2024-01-02..2024-01-05, a Friday
NOW = date(2024, 1, 5)
WRITTEN = 1_704_747_600  # Mon, 08 Jan 2024 21:00:00 GMT


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture
def cache(home) -> Cache:
    return Cache(home / "data")


def prices_of(closes, start="2024-01-02"):
    """A table of B3 sessions (no holiday from 2024-01-02 until 2024-02-12), adj_close half of close."""
    days = calendar.sessions("BVMF", date.fromisoformat(start), date(2025, 12, 31))[: len(closes)]
    table = pd.DataFrame({"date": days, **dict.fromkeys(("open", "high", "low", "close"), closes), "volume": 100.0})
    return shaped(table.assign(adj_close=table["close"].astype(float) / 2))


@pytest.fixture
def finished(monkeypatch):
    """Set the last finished session."""

    def finish(day):
        monkeypatch.setattr(calendar, "last_finished_session", lambda *_: date.fromisoformat(str(day)))

    return finish


@pytest.fixture
def mine(tmp_path, finished):
    """The user's folder with VALE3.csv."""
    finished(NOW)
    return written(tmp_path / "mine", prices_of(CLOSES))


def written(folder, table):
    """The folder with the table as VALE3.csv."""
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "VALE3.csv", index=False)
    return folder


@pytest.fixture
def folder(home) -> Path:
    """Where source=b3 downloads to."""
    folder = home / "data" / "b3"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def stored(folder):
    """Store quotes of the first sessions of 2024, as an earlier source=b3 does; returns their file."""

    def store(closes, **fields):
        file = put(folder / "COTAHIST_A2024.TXT", year_of(2024, closes, **fields), generated="20240105")
        Store(folder / "store").update([file])
        return file

    return store


@pytest.fixture(params=["fsync", "replace"])
def full_disk(request, monkeypatch):
    """Call it to let every write fail from now on, at the sync or at the renaming."""

    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    return lambda: monkeypatch.setattr(os, request.param, full)


@pytest.fixture
def real_quotes(real_prices) -> Path:
    return real_prices.parent / "cotahist"


@contextmanager
def serving(respond):
    """A server that answers each request by `respond(handler)`; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the client closed the connection
                respond(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class FakeYahoo:
    """The answer to requests for a chart; all other requests (cookies, crumb) succeed."""

    def __init__(self):
        self.status, self.body, self.charts_asked = 200, b"", 0
        self.closing, self.hangs = Event(), False

    def answer(self, document, status=200):
        self.status, self.charts_asked = status, 0
        self.body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def answer_prices(self, table):
        self.answer(chart(table))

    def respond(self, handler):
        status, body = 200, b"crumb"
        if handler.path.startswith("/v8/finance/chart/"):
            status, body = self.status, self.body
            self.charts_asked += 1
            self.closing.wait(20 * self.hangs)
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def chart(table):
    """The shape of Yahoo's v8 answer in 2025; times are the session's opening at 10:00 in São Paulo."""

    at_ten = table["date"].dt.tz_localize("America/Sao_Paulo") + pd.Timedelta(hours=10)
    opening = [int(moment.timestamp()) for moment in at_ten]
    values = table.astype(object).where(table.notna(), None)
    quote = {name: list(values[name]) for name in ("open", "high", "low", "close", "volume")}
    meta = {"currency": "BRL", "symbol": "VALE3.SA", "exchangeTimezoneName": "America/Sao_Paulo", "priceHint": 2}
    meta |= {"instrumentType": "EQUITY", "dataGranularity": "1d", "range": "", "validRanges": ["1d", "max"]}
    meta |= {"firstTradeDate": min(opening, default=0), "regularMarketTime": max(opening, default=0)}
    indicators = {"quote": [quote], "adjclose": [{"adjclose": list(values["adj_close"])}]}
    events = {"dividends": {str(opening[1]): {"amount": 0.5, "date": opening[1]}}} if len(opening) > 1 else {}
    result = {"meta": meta, "timestamp": opening, "events": events, "indicators": indicators}
    return {"chart": {"result": [result], "error": None}}


@pytest.fixture
def fake_yahoo(monkeypatch):
    """Real yfinance, whose HTTP session sends every request to our server."""
    import curl_cffi.requests
    import yfinance.data

    fake = FakeYahoo()

    class Redirected(curl_cffi.requests.Session):
        def request(self, method, url, **kwargs):
            return super().request(method, fake.url + urlsplit(url).path, **kwargs)

    monkeypatch.setattr(curl_cffi.requests, "Session", Redirected)
    monkeypatch.setattr(yfinance.data.SingletonMeta, "_instances", {})
    yahoo._session.cache_clear()
    with serving(fake.respond) as fake.url:
        yield fake
        fake.closing.set()
    yahoo._session.cache_clear()


class FakeB3:
    """Serves files as B3's server does: with Last-Modified, ranges and conditions."""

    def __init__(self):
        self.files, self.asked = {}, []
        self.status, self.modified, self.kind = 200, WRITTEN, "application/x-zip-compressed"
        self.hangs, self.break_after, self.ranges = False, None, True
        self.closing = Event()

    def publish(self, year, content):
        self.files[f"/COTAHIST_A{year}.ZIP"] = zipped(content)

    def respond(self, handler):
        headers, content = handler.headers, self.files.get(handler.path)
        self.asked.append((handler.path, headers.get("Range"), headers.get("If-Modified-Since")))
        self.closing.wait(20 * self.hangs)
        modified, first = formatdate(self.modified, usegmt=True), 0
        if self.status != 200 or content is None:
            return handler.send_error(self.status if self.status != 200 else 404)
        if headers.get("If-Modified-Since") == modified:
            handler.send_response(304)
            return handler.end_headers()
        if self.ranges and headers.get("Range") and headers.get("If-Range") == modified:
            first = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            return handler.send_error(416)
        handler.send_response(206 if first else 200)
        length = str(len(content) - first)
        for name, value in ("Content-Type", self.kind), ("Last-Modified", modified), ("Content-Length", length):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content[first : self.break_after])
        return None


@pytest.fixture
def b3(monkeypatch):
    fake = FakeB3()
    with serving(fake.respond) as address:
        monkeypatch.setenv("PREGAO_B3_ADDRESS", address)
        monkeypatch.setattr(B3Source, "fetcher", Fetcher(timeout=0.5, deadline=5, attempts=2, pause=0.01))
        yield fake
        fake.closing.set()


@pytest.fixture
def published(b3, finished):
    """B3 has 2023 whole, and 2024 up to the last finished session."""
    finished(NOW)
    b3.publish(2023, text(year_of(2023, [10.0] * 300), generated="20240102"))
    b3.publish(2024, text(year_of(2024, [20.0, 21.0, 22.0, 23.0]), generated="20240105"))
    return b3
