"""The one way to prices: choose a source, check, cache, cut to the dates, put on the price basis."""

import logging
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import get_args

import pandas as pd

from pregao.errors import BadPrices, InvalidChoice, NothingInRange, PricesUnavailable, UnknownStock
from pregao.prices import calendar, quality
from pregao.prices.cache import Cache, is_fresh, refuse_shorter
from pregao.prices.dates import parse_dates
from pregao.prices.sources import READS_A_PATH, SOURCES, WRITES_THE_CACHE, build
from pregao.prices.symbols import SAMPLES, SHARED, Symbol
from pregao.prices.table import PriceBasis, on_basis
from pregao.settings import settings

logger = logging.getLogger(__name__)

_REMEDY = "Check the network, or read your own prices with source=csv source.path=DIR."


@dataclass(frozen=True)
class Prices:
    """Daily prices of a range, ready for use.

    Attributes:
        symbol: whose prices; carries the currency.
        table: date (naive midnights, ascending, unique), open, high, low, close, volume on the chosen basis, at least
            one row; close is finite and positive, the others may be NaN.
        source: yahoo, csv, sample, or cache.
        stale: they come from the cache because no source answered, and newer sessions may exist.
        warnings: what the quality check repaired or doubts, and what went wrong on the way; sentences.
    """

    symbol: Symbol
    table: pd.DataFrame
    source: str
    stale: bool
    warnings: tuple[str, ...]

    @property
    def closes(self) -> pd.DataFrame:
        """The columns date and close."""
        return self.table[["date", "close"]].copy()

    @property
    def as_of(self) -> date:
        """The day of the last close."""
        last: date = self.table["date"].iloc[-1].date()
        return last


@dataclass(frozen=True)
class _History:
    """Everything a source has, checked; `raw` is what it was before repairs."""

    raw: pd.DataFrame
    table: pd.DataFrame
    source: str
    stale: bool = False
    warnings: tuple[str, ...] = ()


class Downloader:
    """Prices of any stock from one choice of source.

    Args:
        source: auto, yahoo, csv or sample. `auto` asks, in order: the sample for its own two indices, a fresh cache,
            Yahoo, a stale cache; only it falls through.
        path: a csv file, or a folder with <STOCK>.csv; for source=csv only.
        price: adjusted (for splits and dividends, anchored at the last day of the range) or close (splits only).

    Raises:
        InvalidChoice: a source, a price basis or a combination that is not allowed.
    """

    def __init__(self, source: str = "auto", path: Path | str | None = None, price: PriceBasis = "adjusted") -> None:
        _refuse_unknown("source", source, ("auto", *SOURCES))
        _refuse_unknown("data.price", price, get_args(PriceBasis))
        if path and source not in READS_A_PATH:
            allowed = " or ".join(f"source={name}" for name in sorted(READS_A_PATH))
            raise InvalidChoice(f"source.path={path} is not read with source={source}. Use {allowed}, or leave it out.")
        self.source = source
        self.price: PriceBasis = price
        self.path = Path(os.path.expanduser(path)) if path else None  # Path("") would be the current folder
        if source != "auto":
            build(source, self.path)  # a path that leads nowhere is refused now, not after an hour of a sweep
        self._logged: set[str] = set()

    def closes(self, symbol: Symbol | str, start: date | str, end: date | str | None = None) -> pd.DataFrame:
        """The table date, close of `prices`."""
        return self.prices(symbol, start, end).closes

    def prices(self, symbol: Symbol | str, start: date | str, end: date | str | None = None) -> Prices:
        """Checked prices from start to end, both inclusive, never beyond the last finished session.

        Args:
            symbol: VALE3, VALE3.SA, or a Symbol.
            start: ISO date.
            end: ISO date; None for the last finished session.

        Raises:
            InvalidSymbol: no ticker.
            InvalidDates: no date, a reversed range, a start in the future.
            UnknownStock: the source has no such stock.
            PricesUnavailable: no source answered, or it has no rows in the range.
            BadPrices: the prices cannot be used.
        """
        symbol = symbol if isinstance(symbol, Symbol) else Symbol.parse(symbol)
        first, last = parse_dates(start, end)
        return self._logging(self._cut(symbol, self._history(symbol, last), first, last))

    def latest(self, symbol: Symbol | str, sessions: int) -> Prices:
        """Checked prices of the last sessions that the source has, fewer where it has fewer.

        Raises:
            PregaoError: as `prices`.
        """
        symbol = symbol if isinstance(symbol, Symbol) else Symbol.parse(symbol)
        history = self._history(symbol, None)
        finished = pd.Timestamp(calendar.last_finished_session(symbol.calendar))
        days = history.table.loc[history.table["date"] <= finished, "date"].tail(sessions)
        first = finished if days.empty else days.iloc[0]
        return self._logging(self._cut(symbol, history, first.date(), None))

    def _logging(self, prices: Prices) -> Prices:
        for warning in prices.warnings:
            if warning not in self._logged:
                logger.warning("%s", warning)
                self._logged.add(warning)
        return prices

    def _history(self, symbol: Symbol, end: date | None) -> _History:
        if symbol.ticker == SHARED:
            raise UnknownStock(symbol, self.source, SHARED, "It is the model of many stocks. Name a stock, like VALE3.")
        return self._auto(symbol, end) if self.source == "auto" else self._ask(self.source, symbol)

    def _auto(self, symbol: Symbol, end: date | None) -> _History:
        if symbol.ticker in SAMPLES:
            return self._ask("sample", symbol)
        kept = self._cache.read(symbol)
        if kept is not None and is_fresh(kept, symbol, end):
            return _History(kept, kept, "cache")
        try:
            return self._ask("yahoo", symbol)
        except (UnknownStock, PricesUnavailable, BadPrices) as error:
            if kept is not None:
                return _stale(symbol, kept, error)
            if isinstance(error, PricesUnavailable):
                tried = ["sample: it has only " + " and ".join(SAMPLES), "cache: none", *error.tried]
                raise PricesUnavailable(symbol, tried, _REMEDY) from error
            raise

    def _ask(self, source: str, symbol: Symbol) -> _History:
        raw = build(source, self.path).history(symbol)
        if source not in WRITES_THE_CACHE:
            remedy = "Correct the prices, or use another source=."
            return _History(raw, quality.inspect(raw, symbol).usable(_origin(source, self.path), remedy), source)
        raw = raw[raw["date"] <= pd.Timestamp(calendar.last_finished_session(symbol.calendar))]
        table = quality.inspect(raw, symbol).usable(_origin(source, None), f"Try again later. {_REMEDY}")
        refuse_shorter(symbol, table, self._cache.read(symbol), self._cache.path(symbol))
        return _History(raw, table, source, warnings=self._keep(symbol, table))

    def _keep(self, symbol: Symbol, table: pd.DataFrame) -> tuple[str, ...]:
        """Write the cache; the prices are good without it, so that its failure is only a warning."""
        try:
            self._cache.write(symbol, table)
        except OSError as error:
            return (f"{symbol}: the prices were not cached in {self._cache.path(symbol)} ({error.strerror or error}).",)
        return ()

    def _cut(self, symbol: Symbol, history: _History, first: date, last: date | None) -> Prices:
        finished = calendar.last_finished_session(symbol.calendar)
        last = finished if last is None else min(last, finished)
        table = _between(history.table, first, last)
        if table.empty:
            dates = history.table["date"].dt.date
            has = f"{history.source}: it has {dates.iloc[0]}..{dates.iloc[-1]}, nothing from {first} to {last}"
            remedy = f"Change start= and end= (the last finished session was {finished})."
            raise NothingInRange(symbol, [has, *history.warnings], remedy)
        notes = quality.inspect(_between(history.raw, first, last), symbol).notes
        if self.price == "adjusted" and table["adj_close"].isna().all():
            notes += (f"{symbol}: {history.source} has no adj_close: its close is used, dividends stay in the prices.",)
        warnings = (*history.warnings, *notes)
        return Prices(symbol, on_basis(table, self.price), history.source, history.stale, warnings)

    @property
    def _cache(self) -> Cache:
        return Cache(settings().data)


def _refuse_unknown(name: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidChoice(f"{name}={str(given)[:40]} is not known. Allowed: {', '.join(allowed)}.")


def _origin(source: str, path: Path | None) -> str:
    return f"source={source}" if path is None else f"source={source} source.path={path}"


def _between(table: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """Rows of both days and all between, in the order they had."""
    return table[(table["date"] >= pd.Timestamp(first)) & (table["date"] <= pd.Timestamp(last))].reset_index(drop=True)


def _stale(symbol: Symbol, kept: pd.DataFrame, error: Exception) -> _History:
    last = kept["date"].iloc[-1].date()
    why = "; ".join(error.tried) if isinstance(error, PricesUnavailable) else str(error)
    warning = f"{symbol}: prices from the cache, which ends on {last}, because no newer ones could be had ({why})."
    return _History(kept, kept, "cache", stale=True, warnings=(warning,))
