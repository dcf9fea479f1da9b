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
FACTOR_TOLERANCE = 0.01  # fraction; Yahoo rounds prices, and rounds old ones of split stocks most


class Cache:
    """One csv per stock; the folder is created by the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, symbol: Symbol) -> Path:
        """The csv of a stock."""
        return self.folder / f"{symbol}.csv"

    def read(self, symbol: Symbol) -> pd.DataFrame | None:
        """The stored history, columns of `table.COLUMNS`; None without a usable file.

        A file whose content cannot be used is renamed, never deleted, and a warning has its new name. A file that
        cannot be read now (too many open files) stays.
        """
        if not os.path.exists(self.path(symbol)):  # also False for a folder without permission
            return None
        try:
            return quality.inspect(read_table(self.path(symbol), symbol), symbol).usable("the cache", "")
        except BadPrices as error:
            if isinstance(error.__cause__, OSError):
                logger.warning("%s The file stays.", error)
                return None
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


def refuse_worse(symbol: Symbol, new: pd.DataFrame, kept: pd.DataFrame | None, file: Path) -> None:
    """Check that a download may replace the stored history.

    Raises:
        PricesUnavailable: the download ends earlier, lacks more than LOST_ROWS_ALLOWED rows or all of `adj_close`, or
            its prices on common dates are not those of the stored history times one factor.
    """
    if kept is None:
        return
    found, had = (f"{len(table)} rows up to {last_day(table)}" for table in (new, kept))
    if len(new) < len(kept) - LOST_ROWS_ALLOWED or last_day(new) < last_day(kept):
        defect = f"an incomplete answer of {found}"
    elif kept["adj_close"].notna().any() and new["adj_close"].isna().all():
        defect = "an answer without adj_close"
    elif (changed := _rescaled(new, kept)) is not None:
        defect = f"an answer with other prices from {changed} on"
    else:
        return
    raise PricesUnavailable(
        symbol,
        [f"yahoo: {defect}, where {file} has {had}"],
        f"The file is unchanged. Try again later; if Yahoo's history is right, delete {file} first.",
    )


def _rescaled(new: pd.DataFrame, kept: pd.DataFrame) -> date | None:
    """The first common date whose price has another factor than most; None if a handful of corrected rows explains it.

    A new split or dividend multiplies all earlier prices by one factor. A last common row with another factor is never
    a correction: all later closes would follow it.
    """
    both = new.merge(kept, on="date", suffixes=("", "_kept"))
    for name in ("close", "adj_close"):
        ratio = (both[name] / both[f"{name}_kept"]).dropna()
        other = (ratio / ratio.median() - 1).abs() > FACTOR_TOLERANCE
        if len(other) and (other.sum() > LOST_ROWS_ALLOWED or other.iloc[-1]):
            day: date = both["date"][other[other].index[0]].date()
            return day
    return None
