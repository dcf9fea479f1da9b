import subprocess
import sys

import pytest

from pregao.errors import InvalidSymbol
from pregao.prices.symbols import Symbol


@pytest.mark.parametrize("text", ["VALE3", "vale3", "VALE3.SA", "vale3.sa", "  VALE3\n"])
def test_spellings_of_one_stock_are_one_symbol(text):
    assert Symbol.parse(text) == Symbol("VALE3", calendar="BVMF", currency="R$")


@pytest.mark.parametrize("ticker", ["B3SA3", "TAEE11", "PETR4", "E3TF1"])
def test_digits_in_the_letters_and_two_digit_classes_are_tickers(ticker):
    assert str(Symbol.parse(ticker)) == ticker


@pytest.mark.parametrize(("text", "yahoo"), [("sp500", "^GSPC"), ("NASDAQ", "^IXIC")])
def test_samples_trade_in_new_york_in_dollars(text, yahoo):
    symbol = Symbol.parse(text)
    assert (symbol.calendar, symbol.currency, symbol.yahoo) == ("XNYS", "US$", yahoo)


def test_yahoo_names_a_b3_stock_with_sa():
    assert Symbol.parse("VALE3").yahoo == "VALE3.SA"


@pytest.mark.parametrize("text", ["SHARED", "shared", " Shared\n"])
def test_the_model_of_many_stocks_has_a_name_like_a_stocks(text):
    assert Symbol.parse(text) == Symbol("SHARED", calendar="BVMF", currency="R$")


@pytest.mark.parametrize(
    "text",
    [
        *("SHARED.SA", "SHARED3", "ＳHARED"),
        *("", "VALE", "3VAL3", "VALE333", "VALE3.SA.SA", "VALE3SA", "VA LE3", "BVSP", "SP500.SA", "NASDAQ.SA"),
        *("../../etc/passwd", "VALE3/../x", "VALE3\0", "VALE٣", "VALE３", "ſALE3", "VALE3\n.SA", "^BVSP", "A" * 1000),
        *(None, 3, b"VALE3", ["VALE3"]),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(InvalidSymbol, match=r"not a ticker\. A B3 ticker is a letter") as refusal:
        Symbol.parse(text)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("name", ["pregao.prices", "pregao.prices.symbols", "pregao.prices.dates"])
def test_importing_the_names_of_stocks_imports_no_pandas(name):
    code = f"import sys, {name}; sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_exports_its_three_names_and_no_other():
    import pregao.prices
    from pregao.prices import Downloader, Prices, Symbol

    assert [Downloader.__name__, Prices.__name__, Symbol.__name__] == pregao.prices.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Download'"):
        _ = pregao.prices.Download
