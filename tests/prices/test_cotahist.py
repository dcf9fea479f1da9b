"""The parser of B3's daily quotes."""

from datetime import date

import pandas as pd
import pytest

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import parser
from tests.prices.records import record, text, zipped

DAY, NEXT = date(2024, 1, 2), date(2024, 1, 3)
GOOD = [record(DAY), record(DAY, "PETR4"), record(NEXT)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "COTAHIST_A2024.TXT"


def read(path, content, today=None):
    path.write_bytes(content)
    return parser.read(path, today)


def refused(path, content):
    with pytest.raises(BadQuotesFile) as refusal:
        read(path, content)
    assert refusal.value.path == path
    return refusal.value.reason


def test_a_record_becomes_a_row_in_reais_and_shares(path):
    quotes = read(path, text([record(DAY, close=61.5, open=61, high=62.25, low=60.75, volume=12345, dismes=211)]))
    assert (quotes.year, quotes.generated, quotes.records) == (2024, date(2024, 12, 31), 1)
    (row,) = quotes.table.to_dict("records")
    prices = {"open": 61.0, "high": 62.25, "low": 60.75, "close": 61.5, "volume": 12345.0}
    assert row == {"date": pd.Timestamp(DAY), "ticker": "VALE3", **prices, "especi": "ON      NM", "dismes": 211}
    quotes = read(path, text([record(DAY, close=22.5, factor=1000, volume=5000)]))  # the price of a thousand shares
    assert quotes.table[["close", "volume"]].values.tolist() == [[0.0225, 5000.0]]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", [b"", b"\x1a", b"\n\n", None], ids=["line end", "ctrl-Z", "blank lines", "no line end"])
def test_line_ends_file_ends_and_zips_are_read_alike(tmp_path, newline, end):
    content = text([record(DAY), record(NEXT, close=11)], newline=newline)
    content = content.rstrip(b"\r\n") if end is None else content + end
    for written in content, zipped(content):
        assert read(tmp_path / "any name", written).table["close"].tolist() == [10.0, 11.0]


def test_the_size_of_a_block_changes_nothing_but_the_number_of_lines_read(path, monkeypatch):
    monkeypatch.setattr(parser, "RECORDS_IN_A_BLOCK", 3)
    records = [record(DAY, f"AB{i:02d}3", close=1 + i) for i in range(30)]
    for n in range(1, 8):
        assert read(path, text(records[:n])).table["close"].tolist() == list(range(1, n + 1))
    records[25] = records[25][:240]
    assert refused(path, text(records)).startswith("line 27 has 240 characters")


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        *(({"bdi": bdi}, True) for bdi in ("02", "08", "12", "14", "34")),
        *(({"bdi": bdi}, False) for bdi in ("10", "22", "96")),
        *(({"market": market}, False) for market in ("012", "020", "030", "070")),
        ({"currency": "CR$"}, False),
        ({"bdi": "58", "especi": "PN      N2"}, True),
        ({"bdi": "58", "especi": "CPA     MB"}, False),  # a certificate
    ],
)
def test_only_round_lots_of_the_cash_market_in_reais_are_read(path, fields, kept):
    quotes = read(path, text([record(DAY), record(DAY, "TAEE11", **fields)]))
    assert quotes.records == 2
    assert quotes.table["ticker"].tolist() == ["VALE3"] + ["TAEE11"] * kept


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not COTAHIST: it starts with ''"),
        (text(GOOD)[:200], "line 1 has 200 characters"),
        (text([record(DAY, market="070")]), "it has 1 quotes"),
        (text(GOOD, counted=1745), "its trailer counts 1,745 records, header and trailer included, but it has 5 (3"),
        (b"\n".join(text(GOOD, newline="\n").split(b"\n")[:3]), "it ends after line 3 without a trailer"),
        (text([GOOD[0], GOOD[1][:100] + "\r\n" + GOOD[1][102:], GOOD[2]]), "line 3 has 100 characters"),
        (text([GOOD[0], GOOD[1]]).replace(b"\r\n", b"\n", 1), "line 2 has another line ending"),
        (text(GOOD) + text(GOOD), "more lines follow its trailer in line 5"),
        (text([record(date(2023, 12, 28))], year=2024), "its header has the year 2024, but it has quotes of 2023"),
        (text([record(date(2099, 1, 2))]), "its header has the year 2099, written on 2099-12-31"),
        (text(GOOD, generated="20241399"), "line 1 has the writing date 20241399"),
        (text([GOOD[0], GOOD[1].replace("20240102", "20240230")]), "line 3 has the date '20240230'"),
        (text([GOOD[0], GOOD[1][:110] + "x" + GOOD[1][111:]]), "line 3 has '00x0000001000' for close"),
        (text([GOOD[0], record(DAY, "PETR4", factor=0)]), "line 3 has a quotation factor (FATCOT) of 0"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_what_is_found(path, content, reason):
    assert refused(path, content).startswith(reason)


def test_a_bad_zip_is_refused(path):
    good = zipped(text(GOOD))
    encrypted, flipped = bytearray(good), bytearray(good)
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    flipped[120] ^= 255
    grown = zipped(text(GOOD) + bytes(1_000_000))
    sizes = [size.to_bytes(4, "little") for size in (len(text(GOOD)) + 1_000_000, 5000)]
    for content, reason in (
        (encrypted, "the zip is encrypted"),
        (flipped, "the zip is damaged"),
        *((good[:cut], "the zip is damaged or truncated") for cut in (10, 100, 200)),
        (zipped(text(GOOD), text(GOOD)), "the zip has 2 files (COTAHIST.TXT, 1-COTAHIST.TXT)"),
        (zipped(bytes(20_000_000)), "the zip would grow from "),
        (grown.replace(*sizes), "the zip is damaged"),  # it states a false size
    ):
        assert refused(path, content).startswith(reason)


@pytest.mark.parametrize(
    ("name", "year", "records", "kept", "ticker", "close"),
    [
        ("COTAHIST_D08112024.ZIP", 2024, 12_226, 1_325, "VALE3", 60.63),
        ("COTAHIST_D25062021.TXT", 2021, 7_518, 1_074, "VALE3", 112.4),
        ("DemoCotacoesHistoricas12022003.txt", 2003, 551, 184, "UGPA3", 0.02),
    ],
)
def test_real_samples_are_read_completely_and_incomplete_ones_refused(
    real_quotes, name, year, records, kept, ticker, close
):
    quotes = parser.read(real_quotes / name)
    assert (quotes.year, quotes.records, len(quotes.table)) == (year, records, kept)
    assert not quotes.table.duplicated(["date", "ticker"]).any()
    assert (quotes.table[["open", "high", "low", "close"]] > 0).all().all()
    assert quotes.table.set_index("ticker").loc[ticker, "close"] == close
    with pytest.raises(BadQuotesFile, match=r"counts 1,745 records, header and trailer included, but it has 506 \(504"):
        parser.read(real_quotes / "COTAHIST_D04012016_truncated.TXT")
