"""The price cache: data/<STOCK>.csv, replaced whole or not at all."""

import logging
import os
from datetime import date
from pathlib import Path

import pandas as pd

from pregao.errors import BadPrices, PricesUnavailable
from pregao.files import atomic_write, set_aside
from pregao.prices import calendar, quality
from pregao.prices.sources.csv import read_table
from pregao.prices.symbols import Symbol
from pregao.prices.table import last_day

logger = logging.getLogger(__name__)

# Yahoo removes a handful of bad rows (holidays with prices, repeated days); an incomplete answer lacks months
LOST_ROWS_ALLOWED = 5


class Cache:
    """One csv per stock; the folder is created by the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, symbol: Symbol) -> Path:
        """The csv of a stock."""
        return self.folder / f"{symbol}.csv"

    def read(self, symbol: Symbol) -> pd.DataFrame | None:
        """The stored history, columns of `table.COLUMNS`; None without a usable file.

        A file that cannot be used is renamed, never deleted, and a warning has its new name.
        """
        if not os.path.exists(self.path(symbol)):  # also False for a folder without permission
            return None
        try:
            return quality.inspect(read_table(self.path(symbol), symbol), symbol).usable("the cache", "")
        except BadPrices as error:
            try:
                place = f"it is kept as {set_aside(self.path(symbol))}"
            except OSError as failure:
                place = f"it could not be renamed ({failure.strerror})"
            logger.warning("%s The file is ignored; %s.", error, place)
            return None

    def write(self, symbol: Symbol, table: pd.DataFrame) -> None:
        """Replace a stock's file.

        Raises:
            OSError: the previous file is unchanged.
        """
        with atomic_write(self.path(symbol)) as file:
            table.to_csv(file, index=False, date_format="%Y-%m-%d")


def is_fresh(table: pd.DataFrame, symbol: Symbol, end: date | None) -> bool:
    """Whether a history reaches the last finished session, or the last session on or before an earlier `end`."""
    needed = calendar.last_finished_session(symbol.calendar)
    if end is not None and end < needed:
        needed = calendar.last_session_until(symbol.calendar, end)
    return last_day(table) >= needed


def refuse_shorter(symbol: Symbol, new: pd.DataFrame, kept: pd.DataFrame | None, file: Path) -> None:
    """Check that a download may replace the stored history.

    Raises:
        PricesUnavailable: the download ends earlier, or lacks more than LOST_ROWS_ALLOWED rows.
    """
    if kept is None or (len(new) >= len(kept) - LOST_ROWS_ALLOWED and last_day(new) >= last_day(kept)):
        return
    found, had = (f"{len(table)} rows up to {last_day(table)}" for table in (new, kept))
    raise PricesUnavailable(
        symbol,
        [f"yahoo: an incomplete answer of {found}, where {file} has {had}"],
        f"The file is unchanged. Try again later; if Yahoo's shorter history is right, delete {file} first.",
    )
