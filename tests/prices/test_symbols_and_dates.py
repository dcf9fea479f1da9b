"""A stock's name and a range of dates, as the user writes them."""

import subprocess
import sys
from datetime import date, datetime

import pytest

from pregao.errors import InvalidDates, InvalidSymbol, NotAStock, OddLot
from pregao.prices.dates import parse_dates
from pregao.prices.symbols import Symbol

TODAY, SECOND = date(2024, 5, 10), date(2020, 1, 2)


@pytest.mark.parametrize(
    ("text", "parsed", "yahoo"),
    [
        *((text, ("VALE3", "BVMF", "R$"), "VALE3.SA") for text in ("VALE3", "vale3.sa", "  VALE3\n")),
        *((text, (text, "BVMF", "R$"), f"{text}.SA") for text in ("B3SA3", "TAEE11", "E3TF1", "EDFO11B")),
        ("sp500", ("SP500", "XNYS", "US$"), "^GSPC"),
        ("NASDAQ", ("NASDAQ", "XNYS", "US$"), "^IXIC"),
        (" Shared\n", ("SHARED", "BVMF", "R$"), "SHARED.SA"),
    ],
)
def test_every_spelling_of_a_stock_is_one_symbol_with_its_market(text, parsed, yahoo):
    symbol = Symbol.parse(text)
    assert (symbol.ticker, symbol.calendar, symbol.currency) == parsed
    assert (symbol.yahoo, Symbol.parse(str(symbol))) == (yahoo, symbol)


BAD = ["SHARED.SA", "SHARED3", "", "VALE", "3VAL3", "VALE333", "VALE3.SA.SA", "VA LE3", "BVSP", "^BVSP", "NASDAQ.SA"]
BAD += ["../../etc/passwd", "VALE3/../x", "VALE3\0", "VALE٣", "ſALE3", "VALE3\n.SA", "A" * 1000, None, 3, b"VALE3"]


@pytest.mark.parametrize("text", BAD)
def test_other_text_is_refused(text):
    with pytest.raises(InvalidSymbol) as refusal:
        Symbol.parse(text)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(("text", "kind", "said"), [("vale3f", OddLot, "stock=VALE3"), ("IBOV", NotAStock, "BOVA11")])
def test_an_odd_lot_and_an_index_have_their_own_sentence(text, kind, said):
    with pytest.raises(kind, match=said):
        Symbol.parse(text)


@pytest.mark.parametrize("start", ["2020-01-02", SECOND, datetime(2020, 1, 2, 15)])
def test_dates_are_text_or_dates_and_only_the_end_may_be_in_the_future(start):
    assert parse_dates(start, None, TODAY) == (SECOND, None)
    assert parse_dates(start, "2030-01-01", TODAY) == (SECOND, date(2030, 1, 1))
    assert parse_dates("2024-05-10", "2024-05-10", TODAY) == (TODAY, TODAY)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        *((bad, None, f"start={bad} ") for bad in ("2020-02-30", "20200101", "01/02/2020", "", None, "２020-01-01")),
        ("2020-01-01", "2020-13-01", "end=2020-13-01 "),
        ("2020-01-02", "2020-01-01", "start=2020-01-02 is after end=2020-01-01"),
        ("2024-05-11", None, "start=2024-05-11 is in the future"),
    ],
)
def test_a_bad_date_is_refused_with_its_setting(start, end, found):
    with pytest.raises(InvalidDates, match=f"^{found}"):
        parse_dates(start, end, TODAY)


def test_names_of_stocks_and_sources_are_imported_without_heavy_libraries():
    """Every command parses its stock first, and --help must not wait for pandas."""
    light = "import pregao.prices, pregao.prices.symbols, pregao.prices.dates, sys"
    code = f"{light}; assert not {{'pandas', 'numpy'}} & set(sys.modules); import pregao.prices.downloader"
    code += "; assert not {'scipy', 'arch', 'yfinance'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
