"""Prices in Brazilian format: semicolons, decimal commas, 31/01/2020, data and fechamento.

They are converted to the format that `source=csv` reads, which then refuses invalid lines by their number.
"""

import codecs
import csv
import io
import re
from itertools import zip_longest

from pregao.errors import InvalidCloses
from pregao.prices.table import NUMBERS

NAMES = {
    "data": "date",
    **dict.fromkeys(("fechamento", "último", "ultimo", "preço", "preco"), "close"),
    "abertura": "open",
    **dict.fromkeys(("máxima", "maxima", "máximo", "maximo"), "high"),
    **dict.fromkeys(("mínima", "minima", "mínimo", "minimo"), "low"),
    "fechamento ajustado": "adj_close",
}

_DAY = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})")
_NUMBER = re.compile(r"(?:R\$)?\s*(-?[0-9.]*),([0-9]+)")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+")
_BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def as_source_csv(data: bytes) -> bytes:
    """Convert a csv file to the format of `source=csv`: UTF-8, commas, ISO dates, decimal points, English names.

    A file that has this format, or an unknown one, is returned unchanged.
    """
    if data.startswith(_BOMS_16):
        return data
    text = _decoded(data)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = ";" if ";" in first else ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error:  # a quoted cell is not closed: the csv source reports its line
        return data
    if not rows:
        return data
    header = [NAMES.get(name.strip().lower(), name) for name in rows[0]]
    if delimiter == "," and header == rows[0]:
        return text.encode()
    out = io.StringIO(newline="")
    names = [name.strip().lower() for name in header]
    # Extra cells of a row are kept, so that the csv source refuses its line.
    cells = ([_cell(*pair) for pair in zip_longest(names[: len(row)], row, fillvalue="")] for row in rows[1:])
    csv.writer(out).writerows([header, *cells])
    return out.getvalue().encode()


def has_dates(data: bytes) -> bool:
    """Whether a csv file in the format of `source=csv` has a column `date`."""
    first = data.decode(errors="replace").lstrip("\ufeff\r\n ").partition("\n")[0]
    return "date" in [name.strip(' "\r').lower() for name in first.split(",")]


def bare_closes(data: bytes) -> list[float]:
    """The column `close`, or the only column, of a csv file in the format of `source=csv` without dates.

    Raises:
        InvalidCloses: the file has no such column, or a cell of it is not a number.
    """
    rows = [row for row in csv.reader(io.StringIO(_decoded(data), newline="")) if any(row)]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "close" in header:
        column, rows = header.index("close"), rows[1:]
    elif header and all(len(row) == 1 for row in rows):
        column, rows = 0, rows if _is_number(header[0]) else rows[1:]
    else:
        found = ", ".join(name[:40] for name in header[:20]) or "nothing"
        raise InvalidCloses(
            f"The file has no column close (found: {found}). Upload a csv file with the columns date,close, with "
            "close alone, or with data;fechamento."
        )
    cells = [row[column] if column < len(row) else "" for row in rows]
    return [_number(position, cell, len(cells)) for position, cell in enumerate(cells, 1)]


def closes_in(text: str) -> list[float]:
    """The numbers of a text, oldest first, separated by line breaks, spaces, semicolons or commas.

    A comma is the decimal sign if the text has no point and another separator.

    Raises:
        InvalidCloses: a part is not a number.
    """
    parts = re.split(r"[;\s]+", text.strip().strip("[]"))
    if "." in text or all(part.endswith(",") for part in parts[:-1]):
        parts = [piece for part in parts for piece in part.split(",")]
    else:
        parts = [part.strip(",").replace(",", ".") for part in parts]
    parts = [part for part in parts if part]
    return [_number(position, part, len(parts)) for position, part in enumerate(parts, 1)]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # the encoding of Excel on Windows in Portuguese


def _cell(name: str, text: str) -> str:
    cell = text.strip()
    if name == "date" and (found := _DAY.match(cell)):
        day, month, year = found.groups()
        return f"{year}-{month:0>2}-{day:0>2}"
    if name == "volume" and _THOUSANDS.fullmatch(cell):
        return cell.replace(".", "")
    if name in NUMBERS and (found := _NUMBER.fullmatch(cell)):
        whole, fraction = found.groups()
        return f"{whole.replace('.', '')}.{fraction}"
    return cell.removeprefix("R$").strip() if name in NUMBERS else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(position: int, text: str, count: int) -> float:
    if not _is_number(text):
        raise InvalidCloses(
            f"closes: number {position} of {count} is {text[:40]!r}; every close must be a positive, finite price. "
            "Correct it, or remove that session."
        )
    return float(text)
