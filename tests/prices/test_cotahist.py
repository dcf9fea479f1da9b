"""The parser of B3's daily quotes: what it takes, and what it refuses, with the line."""

import zipfile
from datetime import date
from itertools import pairwise

import pandas as pd
import pytest

from pregao.errors import BadPrices, BadQuotesFile
from pregao.prices.cotahist import layout, parser
from pregao.prices.sources.csv import CsvSource
from pregao.prices.symbols import Symbol
from tests.prices.records import record, text, zipped

DAY = date(2024, 1, 2)
NEXT = date(2024, 1, 3)


def read(tmp_path, content, name="COTAHIST_A2024.TXT"):
    path = tmp_path / name
    path.write_bytes(content)
    return parser.read(path)


def refused(tmp_path, content):
    with pytest.raises(BadQuotesFile) as refusal:
        read(tmp_path, content)
    assert str(refusal.value).startswith(f"{tmp_path}/COTAHIST_A2024.TXT: this file cannot be used: ")
    assert str(refusal.value).endswith("Download it again, or remove it from the folder.")
    return refusal.value.reason


def test_the_layouts_fields_lie_in_the_record_and_do_not_overlap():
    fields = [value for value in vars(layout).values() if isinstance(value, slice)]
    assert fields[0] == slice(0, 2)
    assert fields[-1].stop == layout.RECORD_LENGTH
    assert all(one.start < one.stop <= following.start for one, following in pairwise(fields))
    assert len(fields) == 14


def test_a_record_becomes_a_row_in_reais_and_papers(tmp_path):
    quotes = read(tmp_path, text([record(DAY, close=61.5, open=61, high=62.25, low=60.75, volume=12345, dismes=211)]))
    assert (quotes.year, quotes.generated, quotes.records) == (2024, date(2024, 12, 31), 1)
    (row,) = quotes.table.to_dict("records")
    assert row == {
        "date": pd.Timestamp(DAY),
        "ticker": "VALE3",
        "open": 61.0,
        "high": 62.25,
        "low": 60.75,
        "close": 61.5,
        "volume": 12345.0,
        "especi": "ON      NM",
        "dismes": 211,
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", [b"", b"\x1a", b"\n\n", None], ids=["line end", "ctrl-Z", "blank lines", "no line end"])
@pytest.mark.parametrize("as_zip", [False, True], ids=["text", "zip"])
def test_line_ends_file_ends_and_zips_are_read_alike(tmp_path, newline, end, as_zip):
    content = text([record(DAY), record(NEXT, close=11)], newline=newline)
    content = content.rstrip(b"\r\n") if end is None else content + end
    path = tmp_path / "any name"
    zipped(path, content) if as_zip else path.write_bytes(content)
    assert parser.read(path).table["close"].tolist() == [10.0, 11.0]


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_where_a_block_ends_changes_nothing(tmp_path, monkeypatch, n, newline):
    monkeypatch.setattr(parser, "RECORDS_IN_A_BLOCK", 3)
    quotes = read(tmp_path, text([record(DAY, f"VALE{i}", close=i) for i in range(1, n + 1)], newline=newline))
    assert quotes.table["close"].tolist() == list(range(1, n + 1))


@pytest.mark.parametrize(
    ("ticker", "fields", "kept"),
    [
        ("VALE3", {}, True),
        ("TAEE11", {"especi": "UNT     N2"}, True),
        ("AAPL34", {"bdi": "34", "especi": "DRN"}, True),
        ("AAPL34", {"bdi": "02", "especi": "DRN"}, True),
        ("BOVA11", {"bdi": "14", "especi": "CI"}, True),
        ("KNRI11", {"bdi": "12", "especi": "CI  ER"}, True),
        ("OIBR3", {"bdi": "08"}, True),
        ("VALE3F", {"bdi": "96", "market": "020"}, False),
        ("VALE3T", {"bdi": "62", "market": "030"}, False),
        ("VALEA600", {"bdi": "78", "market": "070"}, False),
        ("VALEA600E", {"bdi": "38", "market": "012"}, False),
        ("ITSA1", {"bdi": "10", "especi": "DIR ORD N1"}, False),
        ("PNVL11", {"bdi": "22", "especi": "BNS ORD NM"}, False),
        ("XXXX3", {"bdi": "58"}, False),
    ],
)
def test_only_the_cash_market_in_round_lots_is_kept(tmp_path, ticker, fields, kept):
    quotes = read(tmp_path, text([record(DAY, "ABCD3"), record(DAY, ticker, **fields)]))
    assert quotes.records == 2
    assert quotes.table["ticker"].tolist() == ["ABCD3"] + [ticker] * kept


def test_a_price_for_a_thousand_papers_is_divided_and_the_volume_is_not(tmp_path):
    quotes = read(tmp_path, text([record(DAY, close=22.5, factor=1000, volume=5000)]))
    assert quotes.table[["close", "volume"]].values.tolist() == [[0.0225, 5000.0]]


def test_prices_in_another_currency_are_left_out(tmp_path):
    quotes = read(tmp_path, text([record(DAY), record(DAY, "OLDX3", currency="CR$")]))
    assert quotes.table["ticker"].tolist() == ["VALE3"]


GOOD = [record(DAY), record(DAY, "PETR4"), record(NEXT)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not COTAHIST: it starts with '', not with 00COTAHIST.YYYYBOVESPA"),
        (b"date,close\n2024-01-02,61.5\n", "it is not COTAHIST: it starts with 'date,close\\n'"),
        (b"<!DOCTYPE html><html>Access denied</html>", "it is not COTAHIST: it starts with '<!DOCTYPE html>"),
        (bytes(100_000), "it is not COTAHIST: it starts with "),
        (text(GOOD)[:200], "line 1 has 200 characters, but a record has 245"),
        (text([], year=2024), "it has 0 quotes, but none of the cash market in R$"),
        (text([record(DAY, market="070")]), "it has 1 quotes, but none of the cash market in R$"),
        (
            text(GOOD, counted=1745),
            "its trailer counts 1,745 records, header and trailer included, but it has 5 (3 quotes",
        ),
        (
            text(GOOD, counted=4),
            "its trailer counts 4 records, header and trailer included, but it has 5 (3 quotes)",
        ),
        (b"\n".join(text(GOOD, newline="\n").split(b"\n")[:3]), "it ends after line 3 without a trailer"),
        (text(GOOD)[: 247 * 3 + 100], "line 4 has 100 characters, but a record has 245"),
        (text([GOOD[0], GOOD[1][:-1], GOOD[2]]), "line 3 has 244 characters, but a record has 245"),
        (text([GOOD[0], GOOD[1] + "0", GOOD[2]]), "line 3 has 246 characters, but a record has 245"),
        (text([GOOD[0], "", GOOD[2]]), "line 3 has 0 characters, but a record has 245"),
        (text([GOOD[0], GOOD[1][:100] + "\r\n" + GOOD[1][102:], GOOD[2]]), "line 3 has 100 characters"),
        (text([GOOD[0], GOOD[1]]).replace(b"\r\n", b"\n", 1), "line 2 has another line ending than line 1"),
        (text([GOOD[0], "02" + GOOD[1][2:], GOOD[2]]), "line 3 has type '02'; allowed are 01"),
        (text(GOOD) + text(GOOD), "more lines follow its trailer in line 5"),
        (text([record(date(2023, 12, 28))], year=2024), "its header has the year 2024, but it has quotes of 2023"),
        (
            text([record(date(2099, 1, 2))]),
            "its header has the year 2099, written on 2099-12-31: that is in the future",
        ),
        (text([record(date(2099, 1, 2))], 2024), "line 2 has the date 2099-01-02, which is in the future"),
        (text([record(date(1980, 1, 2))]), "its header has the year 1980, but the first year is 1986"),
        (text(GOOD, generated="20241399"), "line 1 has the writing date 20241399, which is not a date"),
        (
            text([GOOD[0], GOOD[1].replace("20240102", "20240230")]),
            "line 3 has the date '20240230', which is not a date",
        ),
        (
            text([GOOD[0], GOOD[1][:110] + "x" + GOOD[1][111:]]),
            "line 3 has '00x0000001000' for close, which is not a number",
        ),
        (text([GOOD[0], GOOD[1][:152] + " " * 18 + GOOD[1][170:]]), f"line 3 has '{' ' * 18}' for QUATOT"),
        (text([GOOD[0], record(DAY, "PETR4", factor=0)]), "line 3 has a quotation factor (FATCOT) of 0"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_what_is_wrong(tmp_path, content, reason):
    assert refused(tmp_path, content).startswith(reason)


def test_a_wrong_length_far_behind_is_named_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(parser, "RECORDS_IN_A_BLOCK", 4)
    records = [record(DAY, f"AB{i:02d}3") for i in range(30)]
    records[25] = records[25][:240]
    assert refused(tmp_path, text(records)) == "line 27 has 240 characters, but a record has 245"


def test_a_zip_with_two_files_is_refused_with_their_names(tmp_path):
    path = zipped(tmp_path / "COTAHIST_A2024.TXT", text(GOOD), text(GOOD))
    assert refused(tmp_path, path.read_bytes()) == (
        "the zip has 2 files (COTAHIST.TXT, 1-COTAHIST.TXT), but must have one"
    )


def test_a_zip_without_a_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.mkdir("folder")
    assert refused(tmp_path, (tmp_path / "empty.zip").read_bytes()) == "the zip has 0 files (none), but must have one"


def test_a_zip_bomb_is_refused_before_it_goes_off(tmp_path):
    path = zipped(tmp_path / "COTAHIST_A2024.TXT", bytes(50_000_000))
    assert refused(tmp_path, path.read_bytes()).startswith("the zip would grow from 48,")


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path):
    path = zipped(tmp_path / "COTAHIST_A2024.TXT", text(GOOD) + bytes(10_000_000))
    content = path.read_bytes().replace(
        (10_000_000 + len(text(GOOD))).to_bytes(4, "little"), (5000).to_bytes(4, "little")
    )
    assert "damaged" in refused(tmp_path, content)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "COTAHIST_A2024.TXT", text(GOOD))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert refused(tmp_path, bytes(content)) == "the zip is encrypted"


@pytest.mark.parametrize("cut", [10, 100, 200])
def test_a_zip_that_was_cut_short_is_refused(tmp_path, cut):
    path = zipped(tmp_path / "COTAHIST_A2024.TXT", text(GOOD))
    assert refused(tmp_path, path.read_bytes()[:cut]).startswith("the zip is damaged or truncated")


def test_a_zip_with_a_flipped_bit_is_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "COTAHIST_A2024.TXT", text(GOOD)).read_bytes())
    content[120] ^= 255
    assert refused(tmp_path, bytes(content))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(BadPrices, match="it cannot be read"):
        parser.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "COTAHIST_D04012016_truncated.TXT",
            r"counts 1,745 records, header and trailer included, but it has 506 \(504",
        ),
        ("COTAHIST_A2024_first50.TXT", "it ends after line 50 without a trailer"),
        ("SeriesHistoricas_Layout.md", "it is not COTAHIST: it starts with '# FILE LAYOUT"),
    ],
)
def test_real_samples_that_are_not_whole_are_refused(real_quotes, name, reason):
    with pytest.raises(BadQuotesFile, match=reason):
        parser.read(real_quotes / name)


@pytest.mark.parametrize(
    ("name", "year", "records", "kept"),
    [
        ("COTAHIST_D08112024.ZIP", 2024, 12_226, 1_324),
        ("COTAHIST_D25062021.TXT", 2021, 7_518, 1_074),
        ("DemoCotacoesHistoricas12022003.txt", 2003, 551, 183),
    ],
)
def test_real_samples_are_read_whole(real_quotes, name, year, records, kept):
    quotes = parser.read(real_quotes / name)
    assert (quotes.year, quotes.records, len(quotes.table)) == (year, records, kept)
    assert not quotes.table.duplicated(["date", "ticker"]).any()
    assert (quotes.table[["open", "high", "low", "close"]] > 0).all().all()


def test_real_quotes_are_the_closes_that_the_real_prices_have(real_quotes, real_data):
    """Yahoo's closes are of today's count of papers: those without a split since must be the exchange's to the cent."""
    quotes = parser.read(real_quotes / "COTAHIST_D08112024.ZIP").table.set_index("ticker")["close"]
    for ticker in ("VALE3", "PETR4", "BBAS3", "WEGE3", "PRIO3", "SUZB3", "B3SA3"):
        table = CsvSource(real_data).history(Symbol.parse(ticker)).set_index("date")
        assert quotes[ticker] == pytest.approx(table.loc["2024-11-08", "close"], abs=0.005)


def test_prices_of_2003_in_lots_of_a_thousand_are_for_one_paper(real_quotes):
    table = parser.read(real_quotes / "DemoCotacoesHistoricas12022003.txt").table.set_index("ticker")
    assert table.loc["UGPA3", "close"] == 0.02
    assert table.loc["PETR4", "close"] == 46.85
