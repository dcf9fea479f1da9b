"""Files and pasted text in English and Brazilian formats."""

import pytest

from pregao.errors import BadPrices, InvalidCloses
from pregao.prices.brazilian import as_source_csv, bare_closes, closes_in, has_dates
from pregao.prices.sources.csv import CsvSource

READ = "date,close\r\n2024-12-27,1061.50\r\n2024-12-30,61.5\r\n"
BRAZILIAN = "Data;Fechamento\r\n27/12/2024;R$ 1.061,50\r\n30/12/2024;61,5\r\n"


def column(*cells):
    rows = (f"0{day}/01/2020;{cell}\n" for day, cell in enumerate(cells, 1))
    return ("data;fechamento\n" + "".join(rows)).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (READ.encode(), READ),
        (BRAZILIAN.encode(), READ),
        (("\ufeff" + BRAZILIAN).encode(), READ),
        (BRAZILIAN.replace("Fechamento", "Último").encode("cp1252"), READ),
        (b"data;preco;volume\n1.2.2024;1,5;1.000.000\n", "date,close,volume\r\n2024-02-01,1.5,1000000\r\n"),
        (b"data;fechamento\n01/02/2024;1,5;2\n", "date,close\r\n2024-02-01,1.5,2\r\n"),
        (column("1.235", "1.234,50"), "date,close\r\n2020-01-01,1235\r\n2020-01-02,1234.50\r\n"),
        (column("61.5", "61.25"), "date,close\r\n2020-01-01,61.5\r\n2020-01-02,61.25\r\n"),
        (column("38,500", "38,7"), "date,close\r\n2020-01-01,38.500\r\n2020-01-02,38.7\r\n"),
        *((data, data.decode("latin-1")) for data in (b"", b"\n", b'a;b\n"1' + b"x" * 200_000)),  # an unknown format
    ],
    ids=lambda text: text[:9],
)
def test_a_file_is_converted_to_the_format_of_the_csv_source_with_one_decimal_sign_per_column(data, expected):
    assert as_source_csv(data).decode() == expected


@pytest.mark.parametrize(
    ("data", "found"),
    [
        *((column(*cells), r"number \d of") for cells in (["1.235", "1.236"], ["38.7", "38,5"], ["1,235"])),
        (b"data;fechamento\n31/01/20201;61,5\n", "31/01/20201"),
    ],
)
def test_the_csv_source_reads_what_an_upload_reads_and_refuses_what_is_ambiguous(tmp_path, vale3, data, found):
    file = tmp_path / "VALE3.csv"
    file.write_bytes(BRAZILIAN.encode("cp1252"))
    assert CsvSource(file).history(vale3)["close"].tolist() == [1061.5, 61.5]
    file.write_bytes(data)
    with pytest.raises(BadPrices, match=found):
        CsvSource(file).history(vale3)


@pytest.mark.parametrize("data", [b"close\n1.5\n2\n", b"1.5\n2\n", b"x,Close\n0,1.5\n0,2\n", b"x\n1.5\n2\n"])
def test_a_file_without_dates_gives_its_column_of_closes(data):
    assert not has_dates(data)
    assert bare_closes(data) == [1.5, 2]


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        *((text, [1.5, 2, 1000]) for text in ("1.5 2 1000", "1,5 2 1000", "1,5\n2\n1000", "1.5,2,1000")),
        *((text, [1.5, 2, 1000]) for text in ("1.5,2 1000", "[1.5, 2, 1000]", "1,5; 2; 1000;", "1.5,\n2,\n1000,")),
        ("38,50, 38,70", [38.5, 38.7]),
        ("1.235 1.234,50", [1235, 1234.5]),
        ("38,50\n1.038,70", [38.5, 1038.7]),
        ("38,39,40", [38, 39, 40]),
        ("1,234.50 999.10", [1234.5, 999.1]),
    ],
)
def test_pasted_closes_have_one_decimal_sign_and_any_separator(text, closes):
    assert closes_in(text) == closes


@pytest.mark.parametrize(
    ("read", "given", "found"),
    [
        (closes_in, "54.1 abc", "number 2 of 2 is 'abc'"),
        (closes_in, "38,50", "number 1 of"),  # one number or two
        (closes_in, "1.234,50 38.70", "number 2 of"),
        (bare_closes, b"x,close\n0,1\n\n0\n", "number 2 of 2 is ''"),
        (bare_closes, b"day,price\n2024-01-02,1\n", "found: day, price"),
        (bare_closes, b"", "found: nothing"),
    ],
)
def test_what_is_not_a_number_or_can_be_two_is_refused_with_its_position(read, given, found):
    with pytest.raises(InvalidCloses, match=found):
        read(given)
