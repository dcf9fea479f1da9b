"""Files and pasted text in English and Brazilian formats."""

import pytest

from pregao.dashboard.uploads import as_source_csv, bare_closes, closes_in, has_dates
from pregao.errors import InvalidCloses

READ = "date,close\r\n2024-12-27,1061.50\r\n2024-12-30,61.5\r\n"
BRAZILIAN = "Data;Fechamento\r\n27/12/2024;R$ 1.061,50\r\n30/12/2024;61,5\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (READ.encode(), READ),
        (BRAZILIAN.encode(), READ),
        (("\ufeff" + BRAZILIAN).encode(), READ),
        (BRAZILIAN.replace("Fechamento", "Último").encode("cp1252"), READ),
        (b"data;preco;volume\n1.2.2024;1,5;1.000.000\n", "date,close,volume\r\n2024-02-01,1.5,1000000\r\n"),
        (b"data;fechamento\n01/02/2024;1,5;2\n", "date,close\r\n2024-02-01,1.5,2\r\n"),
    ],
    ids=["English", "Brazilian", "byte order mark", "not UTF-8", "volume", "extra cell"],
)
def test_a_file_is_converted_to_the_format_of_the_csv_source(data, expected):
    assert as_source_csv(data).decode() == expected


@pytest.mark.parametrize("data", [b"", b"\n", 'a;b\n"1;2'.encode("utf-16"), b'a;b\n"1' + b"x" * 200_000])
def test_a_file_of_an_unknown_format_is_unchanged(data):
    assert as_source_csv(data) == data


@pytest.mark.parametrize("data", [b"close\n1.5\n2\n", b"1.5\n2\n", b"x,Close\n0,1.5\n0,2\n", b"x\n1.5\n2\n"])
def test_a_file_without_dates_gives_its_column_of_closes(data):
    assert not has_dates(data)
    assert bare_closes(data) == [1.5, 2]


@pytest.mark.parametrize(
    "text",
    [
        *("1.5 2 1000", "1,5 2 1000", "1,5\n2\n1000", "1.5,2,1000", "1.5,2 1000"),
        *("[1.5, 2, 1000]", "1,5; 2; 1000;", "1.5,\n2,\n1000,"),
    ],
)
def test_pasted_closes_are_separated_by_spaces_lines_semicolons_or_commas(text):
    assert closes_in(text) == [1.5, 2, 1000]


@pytest.mark.parametrize(
    ("read", "given", "found"),
    [
        (closes_in, "54.1 abc", "number 2 of 2 is 'abc'"),
        (bare_closes, b"x,close\n0,1\n\n0\n", "number 2 of 2 is ''"),
        (bare_closes, b"day,price\n2024-01-02,1\n", "found: day, price"),
        (bare_closes, b"", "found: nothing"),
    ],
)
def test_a_text_that_is_not_a_number_is_refused_with_its_position(read, given, found):
    with pytest.raises(InvalidCloses, match=found):
        read(given)
