from datetime import date
from pathlib import Path

import pytest

from pregao.errors import BadPrices, InvalidChoice, UnknownStock
from pregao.prices import Downloader, Symbol
from pregao.prices.sources.csv import CsvSource
from pregao.prices.table import COLUMNS

GOOD = "date,close\n2024-01-02,61.5\n2024-01-03,60.25\n"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "VALE3.csv"


def read(file, content, symbol):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CsvSource(file).history(symbol)


def test_date_and_close_are_enough_and_absent_columns_are_nan(file, vale):
    table = read(file, GOOD, vale)
    assert list(table.columns) == COLUMNS
    assert table["close"].tolist() == [61.5, 60.25]
    assert table["adj_close"].isna().all()
    assert str(table["date"].dtype) == "datetime64[us]"


def test_a_folder_is_read_by_stock(file, vale, tmp_path):
    file.write_text(GOOD)
    assert len(CsvSource(tmp_path).history(vale)) == 2


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("date,close", " Date ,Close"),
        GOOD.replace("\n", "\n\n"),
        GOOD.replace("2024-01-03", "2024-01-03 00:00:00-03:00"),
    ],
    ids=["byte order mark", "windows lines", "capitals", "blank lines", "time of day"],
)
def test_harmless_spellings_are_read_alike(file, vale, content):
    table = read(file, content, vale)
    assert table["close"].tolist() == [61.5, 60.25]
    assert table["date"].dt.date.tolist() == [date(2024, 1, 2), date(2024, 1, 3)]


def test_yahoos_column_names_are_understood(file, vale):
    table = read(file, "Date,Close,Adj Close\n2024-01-02,61.5,50.5\n", vale)
    assert table["adj_close"].tolist() == [50.5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("date,close\n", "it has a header and no rows"),
        ("date,price\n2024-01-02,1\n", r"it has no column close \(found: date, price\)"),
        ("day,close\n2024-01-02,1\n", r"it has no column date \(found: day, close\)"),
        ("a\n1\n", r"it has no column date and no column close \(found: a\)"),
        ("date;close\n2024-01-02;61,5\n", r"no column date and no column close|cells where the header"),
        ("date,close,close\n2024-01-02,1,2\n", "a column comes twice"),
        (GOOD + "2024-01-04,abc\n", r"close in line 4 is not a number like 61\.5 \('abc'; 1 such cells\)"),
        (GOOD + '2024-01-04,"61,5"\n', r"close in line 4 is not a number like 61\.5 \('61,5'"),
        ("\n" + GOOD + "2024-13-04,61.5\n", r"date in line 5 is not a date like 2020-01-31 \('2024-13-04'"),
        (GOOD + "04/01/2024,61.5\n", "date in line 4 is not a date"),
        (GOOD + ",61.5\n", "date in line 4 is not a date"),
        (GOOD + "2024-01-04\n", "line 4 has 1 cells where the header has 2"),
        (GOOD + "2024-01-04,\0\n", "close in line 4 is not a number"),
        (GOOD.encode() + b"2024-01-04,\xff\n", "line 4 is not UTF-8"),
        (GOOD.encode("utf-16"), "line 1 is not UTF-8"),
        (GOOD + "2024-01-04," + "1" * 200_000 + "\n", "line 4 is not csv"),
    ],
)
def test_a_bad_file_is_one_sentence_with_the_place_and_what_is_allowed(file, vale, content, reason):
    with pytest.raises(BadPrices, match=reason) as refusal:
        read(file, content, vale)
    text = str(refusal.value)
    assert text.startswith(f"VALE3: {file} cannot be used: ")
    assert text.endswith(
        "Allowed is a UTF-8 csv with commas and at least date,close (2020-01-31,61.5). Correct the file."
    )
    assert len(text) < 600


@pytest.mark.parametrize("price", ["0", "-3.5"])
def test_a_price_of_zero_or_less_is_refused_with_its_date(file, price):
    file.write_text(GOOD + f"2024-01-04,{price}\n")
    with pytest.raises(BadPrices, match=r"prices of zero or less: 1 \(2024-01-04\)"):
        Downloader("csv", file).prices("VALE3", "2024-01-01")


def test_an_infinite_price_is_refused_with_its_date(file):
    file.write_text(GOOD + "2024-01-04,inf\n")
    with pytest.raises(BadPrices, match=r"source\.path=.*VALE3\.csv cannot be used: infinite prices: 1 \(2024-01-04\)"):
        Downloader("csv", file).prices("VALE3", "2024-01-01")


@pytest.mark.parametrize(
    ("day", "what"), [("0001-01-02", "before 1900"), ("1600-01-02", "before 1900"), ("9999-01-02", "in the")]
)
def test_an_absurd_year_is_refused_with_its_date(file, day, what):
    file.write_text(GOOD + f"{day},61.5\n")
    with pytest.raises(BadPrices, match=rf"cannot be used: dates {what}.*: 1 \({day}\)"):
        Downloader("csv", file).prices("VALE3", "2024-01-01")


def test_an_empty_cell_is_a_missing_price(file, vale):
    assert read(file, GOOD + "2024-01-04,\n2024-01-05,nan\n", vale)["close"].isna().sum() == 2


@pytest.mark.parametrize("path", [None, ""])
def test_no_path_is_refused(path):
    with pytest.raises(InvalidChoice, match=r"source=csv needs source\.path=: a csv file, or a folder"):
        Downloader("csv", path)


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "~nobody", "a\0b"])
def test_a_path_that_leads_nowhere_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(InvalidChoice, match=r"source\.path=.* does not exist"):
        Downloader("csv", f"{tmp_path}/{name}")


def test_a_stock_that_the_folder_lacks_is_told_from_the_first_ten_that_it_has(tmp_path, vale):
    for number in range(12):
        (tmp_path / f"AAAA{number}.csv").touch()
    with pytest.raises(
        UnknownStock, match=r"VALE3: csv knows no such stock .*AAAA0, AAAA1, .* and 2 more\.$"
    ) as refusal:
        CsvSource(tmp_path).history(vale)
    assert str(refusal.value).count("AAAA") == 10


def test_an_empty_folder_is_said_to_be_empty(tmp_path, vale):
    with pytest.raises(UnknownStock, match=r"The folder has no csv file at all\."):
        CsvSource(tmp_path).history(vale)


def test_a_folder_where_the_file_should_be_is_refused(file, vale, tmp_path):
    file.mkdir()
    with pytest.raises(BadPrices, match="it is a folder, not a file"):
        CsvSource(tmp_path).history(vale)


def test_an_unreadable_file_is_refused(file, vale, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    file.write_text(GOOD)
    monkeypatch.setattr(Path, "read_bytes", denied)  # root, as in a container, may read anything
    with pytest.raises(BadPrices, match=r"it cannot be read \(Permission denied\)"):
        CsvSource(file).history(vale)


def test_every_real_file_is_read_and_usable(real_data):
    names = sorted(file.stem for file in real_data.glob("*.csv") if file.stem != "BVSP")  # BVSP is not a ticker
    assert len(names) == 23
    for name in names:
        assert len(Downloader("csv", real_data).prices(name, "2014-01-01", "2025-07-31").table) > 1000


def test_the_ibovespas_closes_without_opens_are_read(real_data):
    table = CsvSource(real_data / "BVSP.csv").history(Symbol.parse("VALE3"))
    assert table["close"].notna().all()
    assert table["open"].isna().any()
