"""The price cache: data/<STOCK>.csv, replaced whole or not at all."""

import logging
import os
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

import pandas as pd

from pregao.errors import BadPrices, PricesUnavailable
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
        """Replace a stock's file, by a rename, so that no reader and no crash ever sees half of it.

        Raises:
            OSError: nothing was written, the former file is as it was, and no temporary file is left.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{symbol}.{uuid4().hex}.tmp"
        try:
            with temporary.open("x", encoding="utf-8", newline="") as file:
                table.to_csv(file, index=False, date_format="%Y-%m-%d")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path(symbol))
        finally:
            temporary.unlink(missing_ok=True)

    def _set_aside(self, symbol: Symbol) -> str:
        aside = self.folder / f"{symbol}.corrupt-{datetime.now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"
        try:
            os.replace(self.path(symbol), aside)
        except OSError as error:
            return f"; it stays in its place ({error.strerror})"
        return f"; it is kept as {aside}"


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
