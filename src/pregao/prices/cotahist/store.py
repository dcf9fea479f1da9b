"""The store of COTAHIST's cash market: one parquet file per file of quotes, from which one stock loads fast.

A parquet file is sorted by ticker, so that a filter reads one or two of its row groups. Its footer describes the file
that it was made from. It is replaced whole; a file of an earlier version, or a damaged one, counts as missing.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pregao.files import atomic_write, locked
from pregao.prices.cotahist import parser

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
_DESCRIPTION = b"pregao.cotahist.2"  # key in the footer; another number makes every store be rebuilt
_ROWS_IN_A_GROUP = 8192  # a stock has 250 a year


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

    @property
    def is_of_an_earlier_version(self) -> bool:
        """Whether the folder has the manifest of version 0.1; the next update replaces its files."""
        return (self.folder / "manifest.json").exists()

    def files(self) -> dict[str, StoredFile]:
        """The files in the store, by name."""
        described = {path.stem: _description(path) for path in sorted(self.folder.glob("*.parquet"))}
        return {name: stored for name, stored in described.items() if stored is not None}

    def update(self, paths: Iterable[Path]) -> None:
        """Make the store hold exactly these files; reads only new and changed ones.

        Raises:
            BadQuotesFile: one of them cannot be used; what the store has of it is unchanged.
            OSError: the disk is full or not writable; what the store has is unchanged.
        """
        given = {path.name: path for path in paths}
        if not given and not self.folder.exists():
            return
        with locked(self.folder / ".lock"):  # one update at a time; readers need no lock
            known = self.files()
            for name, path in given.items():
                if name not in known or not known[name].is_of(path):
                    _write(path, self.folder / f"{name}.parquet")
            for other in self.folder.iterdir():
                if other.stem not in given and other.name != ".lock":
                    shutil.rmtree(other) if other.is_dir() else other.unlink()

    def quotes(self, ticker: str) -> pd.DataFrame:
        """`date open high low close volume especi dismes` of a stock, ascending, unadjusted; empty if unknown.

        Of several quotes of a session, the one of the newest file counts, then the one with the largest volume.
        """
        with suppress(FileNotFoundError):  # an update removed a file during the read
            return self._quotes(ticker)
        return self._quotes(ticker)

    def _quotes(self, ticker: str) -> pd.DataFrame:
        paths = [self.folder / f"{name}.parquet" for name in self.files()]
        table = _SCHEMA.empty_table()
        if paths:
            only = [("ticker", "==", ticker)]
            table = pq.read_table(paths, schema=_SCHEMA, filters=only, partitioning=None, use_threads=False)
        rows: pd.DataFrame = table.to_pandas(date_as_object=False).sort_values(["date", "generated", "volume"])
        rows = rows.drop_duplicates("date", keep="last", ignore_index=True).drop(columns=["ticker", "generated"])
        return rows.astype({"date": "datetime64[us]"})


def _description(path: Path) -> StoredFile | None:
    """The file that a parquet file was made from; None if it has no description, is damaged, or was removed."""
    try:
        return StoredFile(**json.loads(pq.read_schema(path).metadata[_DESCRIPTION]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, target: Path) -> None:
    """Read a file of quotes, and write it sorted."""
    found = path.stat()  # before reading: a file that changes meanwhile is read again
    quotes = parser.read(path)
    rows = quotes.table.assign(generated=quotes.generated).sort_values(["ticker", "date"], kind="stable")
    last = str(rows["date"].max().date())
    stored = StoredFile(found.st_size, found.st_mtime_ns, quotes.year, str(quotes.generated), last)
    table = pa.Table.from_pandas(rows, _SCHEMA, preserve_index=False)
    with atomic_write(target) as file:
        table = table.replace_schema_metadata({_DESCRIPTION: json.dumps(asdict(stored))})
        pq.write_table(table, file, row_group_size=_ROWS_IN_A_GROUP, compression="zstd")
