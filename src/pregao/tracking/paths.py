"""The addresses of artifacts in MLflow's tables, which follow a home that was moved, copied or restored.

MLflow stores absolute addresses. Those of a home end in mlruns/artifacts/…, so that a reader finds the files by `here`,
and the first writer of a moved home rewrites all of them by `follow_home`.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from pregao.settings import settings, sqlite_file

ARTIFACTS = "/mlruns/artifacts/"

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Every column with addresses of artifacts."""


def here(address: str) -> str:
    """The address of the same files in this home; unchanged for files and databases that are not part of a home."""
    _, found, rest = address.rpartition(ARTIFACTS)
    return f"{_root()}/{rest}" if found and _database() is not None else address


def stale() -> int:
    """The number of addresses that lead to another home."""
    file = _database()
    if file is None or not file.exists():
        return 0
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return sum(len(_elsewhere(connection, *column)) for column in COLUMNS)


def follow_home() -> None:
    """Rewrite the addresses that lead to another home, in one transaction."""
    file = _database()
    if file is None or not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        if not _elsewhere(connection, *COLUMNS[0]):  # all other addresses begin with that of an experiment
            return
        for table, column in COLUMNS:
            rows = [(here(address), address) for address in _elsewhere(connection, table, column)]
            connection.executemany(f'UPDATE "{table}" SET "{column}" = ? WHERE "{column}" = ?', rows)  # nosec B608


def _elsewhere(connection: sqlite3.Connection, table: str, column: str) -> list[str]:
    if column not in {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}:
        return []
    query = f'SELECT DISTINCT "{column}" FROM "{table}" WHERE "{column}" LIKE ?'  # nosec B608 - names from COLUMNS
    addresses = [row[0] for row in connection.execute(query, (f"%{ARTIFACTS}%",))]
    return [address for address in addresses if address != here(address)]


def _root() -> str:
    return (settings().mlruns / "artifacts").as_uri()


def _database() -> Path | None:
    """The database of the home; None where MLflow has another one, whose files may be anywhere."""
    file = sqlite_file(settings().tracking_uri)
    return file if file is not None and file.parent == settings().mlruns else None
