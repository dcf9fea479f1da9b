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

logger = logging.getLogger(__name__)

# Yahoo takes back a handful of bad rows (holidays with prices, repeated days); a broken answer lacks months
LOST_ROWS_ALLOWED = 5


class Cache:
    """One csv a stock, in a folder that need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, symbol: Symbol) -> Path:
        """Where a stock's prices are kept."""
        return self.folder / f"{symbol}.csv"

    def read(self, symbol: Symbol) -> pd.DataFrame | None:
        """The kept history, columns of `table.COLUMNS`; None where there is none.

        A file that cannot be used counts as none: it is moved aside, never deleted, and a warning says where to.
        """
        if not os.path.exists(self.path(symbol)):  # a folder that may not be entered counts as none
            return None
        try:
            return quality.inspect(read_table(self.path(symbol), symbol), symbol).usable("the cache", "")
        except BadPrices as error:
            logger.warning("%s The cache does without it%s.", error, self._set_aside(symbol))
            return None

    def write(self, symbol: Symbol, table: pd.DataFrame) -> None:
        """Replace a stock's file.

        Raises:
            OSError: nothing was written, and the previous file is unchanged.
        """
        with atomic_write(self.path(symbol)) as file:
            table.to_csv(file, index=False, date_format="%Y-%m-%d")

    def _set_aside(self, symbol: Symbol) -> str:
        try:
            return f"; it is kept as {set_aside(self.path(symbol))}"
        except OSError as error:
            return f"; it stays in its place ({error.strerror})"


def is_fresh(table: pd.DataFrame, symbol: Symbol, end: date | None) -> bool:
    """Does a kept history reach the last finished session, or the last session that was asked for?"""
    needed = calendar.last_finished_session(symbol.calendar)
    if end is not None and end < needed:
        needed = calendar.last_session_until(symbol.calendar, end)
    return bool(table["date"].iloc[-1].date() >= needed)


def refuse_shorter(symbol: Symbol, new: pd.DataFrame, kept: pd.DataFrame | None, file: Path) -> None:
    """Hold a whole download against what is kept.

    Raises:
        PricesUnavailable: the download ends earlier, or has more than LOST_ROWS_ALLOWED rows less.
    """
    if kept is None or (len(new) >= len(kept) - LOST_ROWS_ALLOWED and new["date"].iloc[-1] >= kept["date"].iloc[-1]):
        return
    found = f"{len(new)} rows up to {new['date'].iloc[-1].date()}"
    had = f"{len(kept)} rows up to {kept['date'].iloc[-1].date()}"
    raise PricesUnavailable(
        symbol,
        [f"yahoo: an incomplete answer of {found}, where {file} has {had}"],
        f"The file was kept. Try again later; if Yahoo's shorter history is right, delete {file} first.",
    )
