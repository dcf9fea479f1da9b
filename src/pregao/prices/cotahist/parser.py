"""Read a COTAHIST file into one table of the cash market's quotes, block by block: a year does not fit in memory.

A block is a matrix of records by positions. Records are selected by comparing columns, and only the selected records,
about one in nine, are converted to numbers. benchmarks/b3.md has measured alternatives.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import layout

Bytes = NDArray[np.uint8]

RECORDS_IN_A_BLOCK = 65_536  # 16 MB
LARGEST_RATIO = 200  # compression: about 8 for COTAHIST, and below 200 for one record repeated
LARGEST_TEXT = 8 << 30  # bytes; the largest years have less than a tenth of it

_HEADER = re.compile(rb"00COTAHIST\.([0-9]{4})BOVESPA ([0-9]{8}) *", re.DOTALL)
_TRAILER = re.compile(rb"99COTAHIST\.[0-9]{4}BOVESPA [0-9]{8}([0-9]{11}) *", re.DOTALL)
_FILLING = b"\r\n\x1a"
ZIP = b"PK\x03\x04"  # the first bytes of a zip


@dataclass(frozen=True)
class Quotes:
    """The cash market's quotes in a file.

    Attributes:
        year: of the header's `COTAHIST.YYYY`.
        generated: the day on which B3 wrote the file.
        records: the number of quotes (type 01) of all markets.
        table: `date ticker open high low close volume especi dismes`, one row per selected record, in the file's order;
            prices in R$ per share, volume in shares, both unadjusted.
    """

    year: int
    generated: date
    records: int
    table: pd.DataFrame


def read(path: Path, today: date | None = None) -> Quotes:
    """Read a yearly, monthly or daily file, zipped or not, with CRLF or LF.

    Args:
        path: a text file, or a zip of one text file; recognised by the first bytes, not by the name.
        today: later dates are in the future; by default the latest current date on Earth (UTC+14).

    Raises:
        BadQuotesFile: not COTAHIST, truncated, damaged, or with an invalid record, whose line is in the message.
    """
    today = today or (datetime.now(UTC) + timedelta(hours=14)).date()
    try:
        with _opened(path) as file:
            return _Reader(file, today).quotes()
    except _Defect as defect:
        raise BadQuotesFile(path, str(defect)) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadQuotesFile(path, f"the zip is damaged or truncated ({error})") from None
    except OSError as error:
        raise BadQuotesFile(path, f"it cannot be read ({error.strerror or error})") from error


class _Defect(Exception):
    """The reason why the file cannot be used."""


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        zipped = raw.read(len(ZIP)) == ZIP
        raw.seek(0)
        if not zipped:
            yield raw
            return
        with zipfile.ZipFile(raw) as archive, archive.open(_only_file(archive)) as text:
            yield text


def _only_file(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the zip's only file if its declared size is plausible; zipfile reads no more than that size."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    if len(files) != 1:
        names = ", ".join(info.filename[:40] for info in files[:5])
        raise _Defect(f"the zip has {len(files)} files ({names or 'none'}), but must have one")
    (info,) = files
    if info.flag_bits & 1:
        raise _Defect("the zip is encrypted")
    if info.file_size > LARGEST_TEXT or info.file_size > LARGEST_RATIO * max(info.compress_size, 4096):
        raise _Defect(
            f"the zip would grow from {info.compress_size:,} to {info.file_size:,} bytes; "
            f"allowed is {LARGEST_RATIO}-fold, and {LARGEST_TEXT:,} bytes"
        )
    return info


class _Reader:
    """One pass over a file; `line` is the number of the next line."""

    def __init__(self, file: IO[bytes], today: date) -> None:
        self.file = file
        self.today = today
        self.line = 1
        self.ending = b""
        self.parts: list[pd.DataFrame] = []

    def quotes(self) -> Quotes:
        year, generated = self._header()
        counted = self._body()
        found = self.line - 1  # header, quotes and trailer
        if counted is None:
            raise _Defect(f"it ends after line {found:,} without a trailer (a last record of type 99): it is truncated")
        if counted != found:
            raise _Defect(
                f"its trailer counts {counted:,} records, header and trailer included, but it has {found:,} "
                f"({found - 2:,} quotes)"
            )
        if not self.parts:
            raise _Defect(f"it has {found - 2:,} quotes, but none of the cash market in R$")
        table = pd.concat(self.parts, ignore_index=True)
        other = table["date"].dt.year[table["date"].dt.year != year]
        if not other.empty:
            raise _Defect(f"its header has the year {year}, but it has quotes of {other.iloc[0]}")
        return Quotes(year, generated, found - 2, table)

    def _header(self) -> tuple[int, date]:
        """Return the year and the day of writing; sets `ending`."""
        line = self.file.readline(layout.RECORD_LENGTH + 3)
        text = line.rstrip(b"\r\n")
        header = _HEADER.fullmatch(text)
        if header is None:
            raise _Defect(f"it is not COTAHIST: it starts with {_shown(line)}, not with 00COTAHIST.YYYYBOVESPA")
        self.ending = line[len(text) :]
        if len(text) != layout.RECORD_LENGTH or self.ending not in (b"\n", b"\r\n"):
            raise _Defect(_wrong_length(1, len(text)))
        self.line += 1
        year, generated = int(header[1]), _day(header[2])
        if generated is None:
            raise _Defect(f"line 1 has the writing date {header[2].decode()}, which is not a date")
        if year > self.today.year or generated > self.today:
            raise _Defect(f"its header has the year {year}, written on {generated}: that is in the future")
        if year < layout.FIRST_YEAR:
            raise _Defect(f"its header has the year {year}, but the first year is {layout.FIRST_YEAR}")
        return year, generated

    def _body(self) -> int | None:
        """Read all quotes; return the trailer's count of records, or None without a trailer."""
        for block, last in self._blocks():
            matrix = self._records(block, last)
            others = np.flatnonzero(_texts(matrix, layout.TIPREG) != b"01")
            quotes = int(others[0]) if others.size else len(matrix)
            self._take(matrix[:quotes])
            self.line += quotes
            if others.size:
                return self._trailer(matrix[quotes:], last)
        return None

    def _blocks(self) -> Iterator[tuple[bytes, bool]]:
        """Blocks of whole lines, and whether the block is the last; old files end with ctrl-Z."""
        size = RECORDS_IN_A_BLOCK * (layout.RECORD_LENGTH + len(self.ending))
        block = self.file.read(size)
        while block:
            following = self.file.read(size) if len(block) == size else b""
            last = not following.strip(_FILLING)
            yield (block.rstrip(_FILLING) + self.ending if last else block), last
            block = b"" if last else following

    def _records(self, block: bytes, last: bool) -> Bytes:
        """The block as a matrix of records [N, 245 + line end]; checks every line end."""
        stride = layout.RECORD_LENGTH + len(self.ending)
        if len(block) % stride == 0:
            matrix = np.frombuffer(block, np.uint8).reshape(-1, stride)
            ends = matrix[:, layout.RECORD_LENGTH :] == np.frombuffer(self.ending, np.uint8)
            if ends.all() and block.count(b"\n") == len(matrix):
                return matrix
        lines = block.split(b"\n")[:-1]  # after the last line end is nothing, or part of a record
        for number, line in enumerate(lines, self.line):
            text = line.removesuffix(b"\r")
            if len(text) != layout.RECORD_LENGTH:
                raise _Defect(_wrong_length(number, len(text)))
            if line[len(text) :] + b"\n" != self.ending:
                raise _Defect(f"line {number:,} has another line ending than line 1")
        raise _Defect(_wrong_length(self.line + len(lines), len(block) - sum(len(line) + 1 for line in lines)))

    def _trailer(self, records: Bytes, last: bool) -> int:
        text = records[0, : layout.RECORD_LENGTH].tobytes()
        trailer = _TRAILER.fullmatch(text)
        if trailer is None:
            raise _Defect(f"line {self.line:,} has type {_shown(text[:2])}; allowed are 01, and 99 in the last line")
        if len(records) > 1 or not last:
            raise _Defect(f"more lines follow its trailer in line {self.line:,}")
        self.line += 1
        return int(trailer[1])

    def _take(self, matrix: Bytes) -> None:
        """Add the cash market's quotes in R$ to the parts."""
        cash = np.flatnonzero(_texts(matrix, layout.TPMERC) == layout.CASH)
        classes, kinds = _texts(matrix[cash], layout.CODBDI), _texts(matrix[cash], layout.ESPECI).astype("S2")
        shares = (classes == layout.MIXED_CLASS) & np.isin(kinds, layout.SHARES)
        cash = cash[np.isin(classes, layout.CASH_CLASSES) | shares]
        rows = cash[_texts(matrix[cash], layout.MODREF) == layout.REAL]
        if not rows.size:
            return
        kept, lines = matrix[rows], rows + self.line
        factors = _numbers(kept, layout.FATCOT, lines, "FATCOT")
        if not factors.all():
            raise _Defect(f"line {lines[np.argmin(factors)]:,} has a quotation factor (FATCOT) of 0")
        prices = {name: _numbers(kept, field, lines, name) / (100 * factors) for name, field in _PRICES.items()}
        table = {
            "date": self._dates(kept, lines),
            "ticker": _words(kept, layout.CODNEG),
            **prices,
            "volume": _numbers(kept, layout.QUATOT, lines, "QUATOT").astype("float64"),
            "especi": _words(kept, layout.ESPECI),
            "dismes": _numbers(kept, layout.DISMES, lines, "DISMES").astype("int32"),
        }
        self.parts.append(pd.DataFrame(table))

    def _dates(self, kept: Bytes, lines: NDArray[np.int64]) -> "pd.Series[pd.Timestamp]":
        days, which = np.unique(_texts(kept, layout.DATE), return_inverse=True)
        dates: list[date] = []
        for number, text in enumerate(days.tolist()):
            line, found = lines[np.argmax(which == number)], _day(text)
            if found is None:
                raise _Defect(f"line {line:,} has the date {_shown(text)}, which is not a date")
            if found > self.today:
                raise _Defect(f"line {line:,} has the date {found}, which is in the future")
            dates.append(found)
        return pd.Series(pd.to_datetime(dates).as_unit("us")[which])


_PRICES = {"open": layout.PREABE, "high": layout.PREMAX, "low": layout.PREMIN, "close": layout.PREULT}


def _texts(matrix: Bytes, field: slice) -> NDArray[np.bytes_]:
    """A field's texts [N], with their padding."""
    part = np.ascontiguousarray(matrix[:, field])
    return part.view(f"S{part.shape[1]}").reshape(-1)


def _words(matrix: Bytes, field: slice) -> "pd.Series[str]":
    """A field's texts [N] as str without padding; decodes each distinct text once."""
    words, which = np.unique(_texts(matrix, field), return_inverse=True)
    return pd.Series(np.char.decode(np.char.rstrip(words), "latin-1").astype(object)[which])


def _numbers(kept: Bytes, field: slice, lines: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """A field's digits as whole numbers [N]."""
    digits = kept[:, field] - ord("0")  # unsigned: characters below «0» become large numbers
    wrong = (digits > 9).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _Defect(f"line {lines[row]:,} has {_shown(kept[row, field].tobytes())} for {name}, which is not a number")
    return digits @ 10 ** np.arange(digits.shape[1])[::-1]


def _day(text: bytes) -> date | None:
    try:
        return datetime.strptime(text.decode("ascii"), "%Y%m%d").date()
    except ValueError:
        return None


def _wrong_length(line: int, length: int) -> str:
    return f"line {line:,} has {length:,} characters, but a record has {layout.RECORD_LENGTH}"


def _shown(text: bytes) -> str:
    return repr(text[:24].decode("latin-1"))
