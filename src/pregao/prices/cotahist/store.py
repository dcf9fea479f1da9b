"""The indexed store of COTAHIST's cash market, from which one stock's history loads fast.

One parquet file per first letter of the ticker, sorted by ticker and date: a stock's rows are in one or two row groups,
found by the statistics in the file's footer. An update writes all files into a new folder, then renames the manifest:
readers see the previous state or the new one.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pregao.files import atomic_write, locked
from pregao.prices.cotahist import parser

ROWS_IN_A_GROUP = 8192  # a stock has 250 a year
_FORMAT = 1  # of the manifest and the columns; a store of another format is rebuilt

_SCHEMA = pa.schema(
    {
        "ticker": pa.string(),
        "date": pa.date32(),
        **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64()),
        "especi": pa.string(),
        "dismes": pa.int32(),
        "generated": pa.date32(),
    }
)
_COLUMNS = [name for name in _SCHEMA.names if name not in ("ticker", "generated")]


@dataclass(frozen=True)
class StoredFile:
    """A file in the store, recognised by its size and modification time (ns); days are ISO dates."""

    size: int
    changed: int
    year: int
    generated: str
    last_session: str

    def is_of(self, path: Path) -> bool:
        """Whether this file is unchanged since it was read."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size, self.changed)


class Store:
    """The quotes of a set of files; the folder is created by the first update."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> dict[str, StoredFile]:
        """The files in the store, by name."""
        return {name: StoredFile(**known) for name, known in self._manifest()["files"].items()}

    def update(self, paths: Iterable[Path]) -> None:
        """Make the store hold exactly these files; reads only new and changed ones.

        Raises:
            BadQuotesFile: one of them cannot be used; the store is unchanged.
            OSError: the store is unchanged.
        """
        given = {path.name: path for path in paths}
        if not given and not self.folder.exists():
            return
        with locked(self.folder / ".lock"):  # one update at a time; readers need no lock
            previous, files = self._manifest()["folder"], self.files()
            known = {} if files.keys() - given.keys() else files  # rows do not name their file: rebuild after a removal
            new = [path for name, path in given.items() if name not in known or not known[name].is_of(path)]
            if not new and known == files:
                return
            read = {path.name: _read(path) for path in new}
            tables = [table for table, _ in read.values()]
            merged = previous if known.keys() - read.keys() else None
            self._write(tables, merged, known | {name: entry for name, (_, entry) in read.items()})
            if previous:
                shutil.rmtree(self.folder / previous, ignore_errors=True)

    def quotes(self, ticker: str) -> pd.DataFrame:
        """`date open high low close volume especi dismes` of a stock, ascending, unadjusted; empty if unknown."""
        for _ in range(2):
            with suppress(FileNotFoundError):  # an update replaced the folder during the read
                return self._quotes(ticker)
        return self._quotes(ticker)

    def _quotes(self, ticker: str) -> pd.DataFrame:
        folder = self._manifest()["folder"]
        path = self.folder / str(folder) / _bucket(ticker)
        table, found = _SCHEMA.empty_table(), path.exists()
        if folder and not found and not path.parent.exists():
            raise FileNotFoundError(path)
        if found:
            with pq.ParquetFile(path, memory_map=True) as file:
                table = file.read_row_groups(_groups(file, ticker), ["ticker", *_COLUMNS], use_threads=False)
        table = table.filter(pc.equal(table["ticker"], ticker)).select(_COLUMNS)
        rows: pd.DataFrame = table.to_pandas(date_as_object=False, use_threads=False)
        return rows.astype({"date": "datetime64[us]"})

    def _manifest(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            if found["format"] == _FORMAT:
                return found
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return {"format": _FORMAT, "folder": None, "files": {}}

    def _write(self, tables: list[pa.Table], previous: str | None, known: dict[str, StoredFile]) -> None:
        """Write the tables and the rows of the previous folder into a new folder, then the manifest."""
        folder = self.folder / uuid4().hex
        try:
            if tables:
                folder.mkdir()
                _write_buckets(tables, folder, self.folder / previous if previous else None)
            manifest = {"format": _FORMAT, "folder": folder.name if tables else None, "files": known}
            with atomic_write(self.folder / "manifest.json") as file:
                file.write_text(json.dumps(manifest, default=asdict), encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _read(path: Path) -> tuple[pa.Table, StoredFile]:
    found = path.stat()  # before reading: a file that changes meanwhile is read again
    quotes = parser.read(path)
    table = pa.Table.from_pandas(quotes.table.assign(generated=quotes.generated), _SCHEMA, preserve_index=False)
    last = quotes.table["date"].max().date()
    known = StoredFile(found.st_size, found.st_mtime_ns, quotes.year, str(quotes.generated), str(last))
    return table, known


def _bucket(ticker: str) -> str:
    return f"{ticker[0] if ticker[:1].isalnum() else '_'}.parquet"


def _groups(file: pq.ParquetFile, ticker: str) -> list[int]:
    """The row groups whose range of tickers includes this one."""
    bounds = [file.metadata.row_group(group).column(0).statistics for group in range(file.num_row_groups)]
    return [group for group, bound in enumerate(bounds) if bound.min <= ticker <= bound.max]


def _write_buckets(tables: list[pa.Table], folder: Path, previous: Path | None) -> None:
    rows = pa.concat_tables(tables).to_pandas(date_as_object=False)
    parts = {name: [part] for name, part in rows.groupby(rows["ticker"].map(_bucket), sort=False)}
    for path in previous.iterdir() if previous else ():
        old = pq.read_table(path, partitioning=None).to_pandas(date_as_object=False)
        parts[path.name] = [old, *parts.get(path.name, [])]
    for name, both in parts.items():
        _write_bucket(pd.concat(both), folder / name)


def _write_bucket(rows: pd.DataFrame, path: Path) -> None:
    """Sort, and keep one row per stock and session: of the newest file, then of the class with the largest volume."""
    rows = rows.sort_values(["ticker", "date", "generated", "volume"], kind="stable")
    rows = rows.drop_duplicates(["ticker", "date"], keep="last")
    table = pa.Table.from_pandas(rows, _SCHEMA, preserve_index=False)
    pq.write_table(table, path, row_group_size=ROWS_IN_A_GROUP, compression="zstd")
