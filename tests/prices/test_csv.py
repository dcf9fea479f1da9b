from datetime import date
from pathlib import Path

import pytest

from pregao.errors import BadPrices, UnknownStock
from pregao.prices import Downloader
from pregao.prices.sources.csv import CsvSource
from pregao.prices.table import COLUMNS

GOOD = "date,close\n2024-01-02,61.5\n2024-01-03,60.25\n"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "VALE3.csv"


def read(file, content, symbol):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CsvSource(file.parent).history(symbol)


@pytest.mark.parametrize(
    "content",
    [
        *(GOOD, "\ufeff" + GOOD, GOOD.replace("date,close", " Date ,Close")),
        *(GOOD.replace("\n", ending) for ending in ("\r\n", "\n\n")),
        GOOD.replace("2024-01-03", "2024-01-03 00:00:00-03:00"),
    ],
)
def test_spellings_of_a_csv_are_read_alike_and_absent_columns_are_nan(file, vale3, content):
    table = read(file, content, vale3)
    assert table["close"].tolist() == [61.5, 60.25]
    assert table["date"].dt.date.tolist() == [date(2024, 1, 2), date(2024, 1, 3)]
    assert str(table["date"].dtype) == "datetime64[us]"
    assert list(table.columns) == COLUMNS
    assert table["adj_close"].isna().all()
    assert len(CsvSource(file).history(vale3)) == 2  # the file itself


def test_yahoos_column_names_and_empty_cells_are_read(file, vale3):
    table = read(file, "Date,Close,Adj Close\n2024-01-02,61.5,50.5\n2024-01-03,,nan\n", vale3)
    assert table[["adj_close", "close"]].dropna().values.tolist() == [[50.5, 61.5]]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("\n\n", "the file is empty"),
        ("date,close\n", "no rows"),
        ("a\n1\n", r"no column date and no column close \(found: a\)"),
        ("date,close,close\n2024-01-02,1,2\n", "twice"),
        (GOOD + '2024-01-04,"61,5"\nabc,1\n', r"close in line 4 .*'61,5'; 1 such cells"),
        ("\n" + GOOD + "2024-13-04,61.5\n", r"date in line 5 .*'2024-13-04'"),
        (GOOD + ",61.5\n", "date in line 4"),
        (GOOD + "2024-01-04\n", "line 4 has 1 cells"),
        (GOOD.encode() + b"2024-01-04,\xff\n", "line 4 is not UTF-8"),
        (GOOD.encode("utf-16"), "line 1 is not UTF-8"),
        (GOOD + "2024-01-04," + "1" * 200_000 + "\n", "line 4 is not csv"),
    ],
)
def test_a_bad_csv_is_refused_with_its_first_bad_line(file, vale3, content, found):
    with pytest.raises(BadPrices, match=f"VALE3.csv cannot be used: .*{found}") as refusal:
        read(file, content, vale3)
    assert len(str(refusal.value)) < 600


def test_a_price_that_cannot_be_is_refused_with_its_date(file):
    file.write_text(GOOD + "2024-01-04,inf\n2024-01-05,0\n0001-01-02,5\n")
    with pytest.raises(BadPrices, match=r"0001-01-02.*infinite prices: 1 \(2024-01-04\).*less: 1 \(2024-01-05\)"):
        Downloader("csv", file).prices("VALE3", "2024-01-01")


def test_a_stock_without_a_file_is_unknown_and_the_first_ten_stocks_are_listed(tmp_path, vale3):
    for number in range(12):
        (tmp_path / f"AAAA{number}.csv").touch()
    with pytest.raises(UnknownStock, match=r"AAAA0, .* and 2 more") as refusal:
        CsvSource(tmp_path).history(vale3)
    assert str(refusal.value).count("AAAA") == 10
