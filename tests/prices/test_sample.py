import subprocess
import sys
from datetime import date

import pytest

from pregao.errors import PricesUnavailable, UnknownStock
from pregao.prices import Downloader, Symbol
from pregao.prices.sources.sample import SampleSource
from pregao.prices.table import COLUMNS


@pytest.mark.parametrize("ticker", ["SP500", "NASDAQ"])
def test_both_indices_are_whole_and_without_a_defect(ticker):
    table = SampleSource().history(Symbol.parse(ticker))
    assert list(table.columns) == COLUMNS
    assert len(table) == 5031
    assert Downloader("sample").prices(ticker, "1999-01-01", "2018-12-31").warnings == ()


def test_another_stock_is_refused_with_what_the_sample_has(vale):
    with pytest.raises(UnknownStock, match=r"VALE3: sample knows no such stock .* It has only SP500 and NASDAQ\."):
        SampleSource().history(vale)


def test_auto_takes_the_sample_without_network_or_cache(home):
    prices = Downloader().prices("SP500", "2018-01-01")
    assert (prices.source, prices.stale, prices.as_of) == ("sample", False, date(2018, 12, 31))
    assert not home.exists()


def test_a_range_that_the_sample_lacks_is_refused_with_the_range_that_it_has():
    with pytest.raises(PricesUnavailable, match=r"it has 1999-01-04\.\.2018-12-31, nothing from 2020-01-01 to "):
        Downloader().prices("SP500", "2020-01-01")


def test_scipy_is_imported_only_when_the_sample_is_asked():
    code = "import sys, pregao.prices.downloader; sys.exit(bool({'scipy', 'arch', 'yfinance'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
