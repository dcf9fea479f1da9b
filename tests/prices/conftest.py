"""Small tables, a home of its own for each test, and a server that stands in for Yahoo at the network's edge."""

import json
import os
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from pregao.prices import calendar
from pregao.prices.sources import yahoo
from pregao.prices.symbols import Symbol
from pregao.prices.table import shaped


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def vale() -> Symbol:
    return Symbol.parse("VALE3")


@pytest.fixture
def prices_of():
    """A table of B3 sessions from 2024-01-02 (no holiday until 2024-02-12), adj_close half of close."""

    def build(closes, start="2024-01-02"):
        days = calendar.sessions("BVMF", date.fromisoformat(start), date(2025, 12, 31))[: len(closes)]
        half = [None if close is None else close / 2 for close in closes]
        ohl = dict.fromkeys(("open", "high", "low", "close"), closes)
        return shaped(pd.DataFrame({"date": days, **ohl, "adj_close": half, "volume": 100.0}))

    return build


@pytest.fixture
def finished(monkeypatch):
    """Set the last finished session."""

    def set_to(day):
        monkeypatch.setattr(calendar, "last_finished_session", lambda *_: date.fromisoformat(day))

    return set_to


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("PREGAO_REAL_DATA")
    if not folder:
        pytest.skip("PREGAO_REAL_DATA is unset: it names the folder with real B3 prices")
    return Path(folder)


@pytest.fixture(scope="session")
def real_quotes(real_data) -> Path:
    folder = real_data.parent / "cotahist"
    if not folder.is_dir():
        pytest.skip("there is no folder cotahist beside PREGAO_REAL_DATA: it holds B3's own files")
    return folder


class FakeYahoo:
    """What the server answers to the chart request; everything else (cookies, crumb) succeeds."""

    def __init__(self):
        self.status = 200
        self.body = b""
        self.delay = 0.0
        self.charts_asked = 0
        self.closing = Event()

    def answer(self, document, status=200):
        self.status = status
        self.body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def answer_prices(self, table):
        self.answer(chart(table))


def chart(table):
    """The shape of Yahoo's v8 answer, seen 2025; times are the session's opening at 10:00 in São Paulo."""

    def numbers(name):
        return [None if pd.isna(value) else value for value in table[name].tolist()]

    zone = ZoneInfo("America/Sao_Paulo")
    opening = [int(datetime(d.year, d.month, d.day, 10, tzinfo=zone).timestamp()) for d in table["date"]]
    quote = {name: numbers(name) for name in ("open", "high", "low", "close", "volume")}
    meta = {
        "currency": "BRL",
        "symbol": "VALE3.SA",
        "exchangeName": "SAO",
        "instrumentType": "EQUITY",
        "firstTradeDate": opening[0] if opening else 0,
        "regularMarketTime": opening[-1] if opening else 0,
        "gmtoffset": -10800,
        "timezone": "BRT",
        "exchangeTimezoneName": "America/Sao_Paulo",
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    indicators = {"quote": [quote], "adjclose": [{"adjclose": numbers("adj_close")}]}
    events = {"dividends": {str(opening[1]): {"amount": 0.5, "date": opening[1]}}} if len(opening) > 1 else {}
    result = {"meta": meta, "timestamp": opening, "events": events, "indicators": indicators}
    return {"chart": {"result": [result], "error": None}}


@pytest.fixture(scope="session")
def yahoo_server():
    fake = FakeYahoo()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_chart = self.path.startswith("/v8/finance/chart/")
            if is_chart:
                fake.charts_asked += 1
                fake.closing.wait(fake.delay)
            status, body = (fake.status, fake.body) if is_chart else (200, b"crumb")
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client gave up waiting

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = fake.home_url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield fake
    fake.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def fake_yahoo(yahoo_server, monkeypatch):
    """Real yfinance, whose HTTP session sends every request to our server."""
    import yfinance._http
    import yfinance.data
    from curl_cffi.requests import Session

    class Redirected(Session):
        def request(self, method, url, **kwargs):
            return super().request(method, yahoo_server.url + urlsplit(url).path, **kwargs)

    yahoo_server.__dict__.update(status=200, body=b"", delay=0.0, charts_asked=0, url=yahoo_server.home_url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(yfinance._http, "new_session", Redirected)
    yfinance.data.SingletonMeta._instances.clear()
    yahoo._session.cache_clear()
    yield yahoo_server
    yfinance.data.SingletonMeta._instances.clear()
    yahoo._session.cache_clear()
