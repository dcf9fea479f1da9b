"""Prices in Brazilian format: semicolons, decimal commas, 31/01/2020, data and fechamento.

They are converted to one format, whose invalid lines `source=csv` refuses by their number. Nothing is guessed: a column
or text has one decimal sign, and is refused if it can be read with either.
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence

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

_DAY = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})(?:[ T].*)?")
_NUMERIC = re.compile(r"-?[0-9.,]+")
_PATTERNS = {
    ".": re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"),
    ",": re.compile(r"-?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)(?:,[0-9]+)?"),
}
_BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def plain_numbers(texts: Sequence[str], decimal: str | None = None) -> list[str]:
    """The texts with decimal points and without thousands separators; other texts than numbers are unchanged.

    All of them have one decimal sign, which follows from those that can be read in one way only.

    Args:
        texts: the cells of a column, or the numbers of a text.
        decimal: the sign if they can be read in both ways; None refuses them.

    Raises:
        InvalidCloses: they have two decimal signs, or can be read in both ways.
    """
    cells = [text.strip().removeprefix("R$").strip() for text in texts]
    signed = [
        (place, cell) for place, cell in enumerate(cells, 1) if _NUMERIC.fullmatch(cell) and set(cell) & set(".,")
    ]
    possible = [sign for sign in _PATTERNS if all(_PATTERNS[sign].fullmatch(cell) for _, cell in signed)]
    if signed and (not possible or (len(possible) == 2 and decimal is None)):
        first = possible[0] if possible else next((s for s in _PATTERNS if _PATTERNS[s].fullmatch(signed[0][1])), ".")
        place, cell = next((one for one in signed if not _PATTERNS[first].fullmatch(one[1])), signed[0])
        why = "has another decimal sign than the others" if not possible else "can be read with either decimal sign"
        raise InvalidCloses(
            f"closes: number {place} of {len(cells)}, {cell[:40]!r}, {why}. Allowed are 1234.50, 1.234,50 and 1234,50, "
            "but only one spelling in a column or text. Write all numbers with two decimal places."
        )
    sign = decimal if len(possible) == 2 else possible[0]
    if sign is None:
        return cells
    chosen = {place - 1 for place, _ in signed}
    other = "." if sign == "," else ","
    return [cell.replace(other, "").replace(sign, ".") if i in chosen else cell for i, cell in enumerate(cells)]


def as_source_csv(data: bytes) -> bytes:
    """Convert a csv file to the format of `source=csv`: UTF-8, commas, ISO dates, decimal points, English names.

    A file that has this format, or an unknown one, is returned unchanged. Line numbers stay.

    Raises:
        InvalidCloses: the numbers of a column can be read in two ways.
    """
    if data.startswith(_BOMS_16):
        return data
    text = _decoded(data)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = ";" if ";" in first else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:  # a quoted cell is not closed: the csv source reports its line
        return data
    place = next((number for number, row in enumerate(rows) if any(row)), None)
    if place is None:
        return data
    header = [NAMES.get(name.strip().lower(), name) for name in rows[place]]
    if delimiter == "," and header == rows[place]:
        return data
    names = [name.strip().lower() for name in header]
    body = [list(row) for row in rows[place + 1 :]]
    for column, name in enumerate(names):
        _convert(name, [row for row in body if len(row) > column], column)
    out = io.StringIO(newline="")
    csv.writer(out).writerows([*rows[:place], header, *body])
    return out.getvalue().encode()


def _convert(name: str, rows: list[list[str]], column: int) -> None:
    """Convert the cells of a column in place."""
    cells = [row[column].strip() for row in rows]
    if name == "date":
        found = [_DAY.fullmatch(cell) for cell in cells]
        cells = [f"{m[3]}-{m[2]:0>2}-{m[1]:0>2}" if m else cell for m, cell in zip(found, cells, strict=True)]
    elif name in NUMBERS:
        cells = plain_numbers(cells, "," if name == "volume" else None)  # a volume has no decimal places
    for row, cell in zip(rows, cells, strict=True):
        row[column] = cell


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

    A comma inside of parts that other separators divide is the decimal sign.

    Raises:
        InvalidCloses: a part is not a number, or can be read in two ways.
    """
    parts = [part for part in re.split(r"[;\s]+", text.strip().strip("[]")) if part.strip(",")]
    numbers = [part.strip(",") for part in parts]
    pieces = [piece for part in parts for piece in part.split(",") if piece]
    spelled = [
        part for part in numbers if {".", ","} <= set(part) and any(p.fullmatch(part) for p in _PATTERNS.values())
    ]
    if spelled or (len(numbers) > 1 and "." not in text and all(_PATTERNS[","].fullmatch(part) for part in numbers)):
        numbers = plain_numbers(numbers, ",")
    elif len(numbers) == 1 and _PATTERNS[","].fullmatch(numbers[0]) and "," in numbers[0]:
        raise InvalidCloses(
            f"closes: number 1 of 1, {numbers[0][:40]!r}, can be one number or two. Separate numbers by spaces, or "
            "write decimal points."
        )
    else:
        numbers = plain_numbers(pieces, ".")
    return [_number(position, part, len(numbers)) for position, part in enumerate(numbers, 1)]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # the encoding of Excel on Windows in Portuguese


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
