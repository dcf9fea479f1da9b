"""The user's prices: a csv file, or a folder with one file per stock."""

import csv
import io
import os
from pathlib import Path

import pandas as pd

from pregao.errors import BadPrices, InvalidChoice, InvalidCloses, InvalidSymbol, UnknownStock
from pregao.prices.brazilian import as_source_csv
from pregao.prices.sources import Source
from pregao.prices.symbols import Symbol
from pregao.prices.table import NUMBERS, shaped

_ISO_DAY = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T].*)?$"
_EMPTY = {"", "nan", "na", "null"}
_REMEDY = "Allowed is a UTF-8 csv with commas and at least date,close (2020-01-31,61.5). Correct the file."


class CsvSource(Source):
    """`source=csv source.path=PATH`; PATH is a file, or a folder that holds `<STOCK>.csv`."""

    reads_a_path = True

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise InvalidChoice("source=csv needs source.path=: a csv file, or a folder with <STOCK>.csv in it.")
        if not os.path.exists(path):  # Path.exists raises an error for a folder without permission
            raise InvalidChoice(f"source.path={path} does not exist. Give a csv file, or a folder of <STOCK>.csv.")
        self.path = path

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """All rows of the file; see `Source.history`."""
        if not self.path.is_dir():
            if _is_another_ticker(self.path.stem, symbol):
                self.notes = (f"{symbol}: the prices are read from {self.path.name}, the file of another ticker.",)
            return read_table(self.path, symbol)
        file = self.path / f"{symbol}.csv"
        if not os.path.exists(file):
            stocks = sorted(other.stem for other in self.path.glob("*.csv"))
            have = ", ".join(stocks[:10]) + (f" and {len(stocks) - 10} more" if len(stocks) > 10 else "")
            raise UnknownStock(symbol, "csv", str(file), f"The folder has {have or 'no csv file at all'}.")
        return read_table(file, symbol)


def _is_another_ticker(name: str, symbol: Symbol) -> bool:
    try:
        return Symbol.parse(name) != symbol
    except InvalidSymbol:
        return False


def read_table(file: Path, symbol: Symbol) -> pd.DataFrame:
    """Read one csv into the columns of `table.COLUMNS`.

    Raises:
        BadPrices: with the file, the first bad line, and what was found.
    """
    try:
        header, lines, rows = _split(_decode(file))
        columns = _columns(header)
        texts = pd.DataFrame(rows, columns=pd.Index(columns), index=pd.Index(lines), dtype=object)
        numbers = {name: _numbers(texts[name]) for name in NUMBERS if name in columns}
        table = pd.DataFrame({"date": _dates(texts["date"]), **numbers})
    except _Defect as defect:
        raise BadPrices(symbol, str(file), [str(defect)], _REMEDY) from defect.__cause__
    return shaped(table)


class _Defect(Exception):
    """The reason why the file cannot be used."""


def _decode(file: Path) -> str:
    if file.is_dir():
        raise _Defect("it is a folder, not a file")
    try:
        return as_source_csv(file.read_bytes()).decode("utf-8-sig")  # Excel writes a byte order mark
    except InvalidCloses as error:
        raise _Defect(str(error)) from None
    except OSError as error:
        raise _Defect(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _Defect(f"line {line} is not UTF-8") from None


def _split(text: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the header, the line number of each row, and the cells of each row."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _Defect(f"line {reader.line_num} is not csv ({error})") from None
    if not numbered:
        raise _Defect("the file is empty")
    (_, header), *body = numbered
    if not body:
        raise _Defect("it has a header and no rows")
    for line, row in body:
        if len(row) != len(header):
            raise _Defect(f"line {line} has {len(row)} cells where the header has {len(header)}")
    return header, [line for line, _ in body], [row for _, row in body]


def _columns(header: list[str]) -> list[str]:
    names = [name.strip().lower().replace(" ", "_") for name in header]
    missing = [name for name in ("date", "close") if name not in names]
    found = ", ".join(name[:40] for name in names[:20])
    if missing:
        raise _Defect(f"it has no column {' and no column '.join(missing)} (found: {found})")
    if len(set(names)) < len(names):
        raise _Defect(f"a column comes twice (found: {found})")
    return names


def _dates(texts: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    days = texts.str.strip().str.extract(_ISO_DAY, expand=False)
    dates = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
    _refuse_first(texts, dates.isna(), "is not a date like 2020-01-31")
    return dates


def _numbers(texts: "pd.Series[str]") -> "pd.Series[float]":
    stripped = texts.str.strip()
    numbers = pd.to_numeric(stripped, errors="coerce").astype("float64")
    _refuse_first(texts, numbers.isna() & ~stripped.str.lower().isin(_EMPTY), "is not a number like 61.5")
    return numbers


def _refuse_first(texts: "pd.Series[str]", wrong: "pd.Series[bool]", reason: str) -> None:
    if wrong.any():
        line = texts.index[wrong][0]
        raise _Defect(f"{texts.name} in line {line} {reason} ({texts[line][:40]!r}; {int(wrong.sum())} such cells)")
