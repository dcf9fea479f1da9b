"""The single entry point for prices: chooses a source, checks, caches, cuts to the dates, applies the price basis."""

import logging
import os
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from pregao.errors import BadPrices, InvalidChoice, NothingInRange, PricesUnavailable, UnknownStock
from pregao.prices import calendar, quality
from pregao.prices.actions import likely_splits
from pregao.prices.cache import Cache, is_fresh, refuse_worse
from pregao.prices.dates import parse_dates
from pregao.prices.sources import SOURCES, Source, build, source_class
from pregao.prices.sources.b3 import B3Source
from pregao.prices.symbols import SAMPLES, SHARED, Symbol
from pregao.prices.table import PriceBasis, first_five, last_day, on_basis
from pregao.settings import settings

logger = logging.getLogger(__name__)

SESSIONS_WITHOUT_A_TRADE = 5
"""A history that ends this many sessions ago is not yet stale: some stocks do not trade each day."""

_REMEDY = "Check the network, or read your own prices with source=csv source.path=DIR."


@dataclass(frozen=True)
class Prices:
    """Checked daily prices of a range.

    Attributes:
        symbol: the stock; has the currency.
        table: date (naive midnights, ascending, unique), open, high, low, close, volume on the chosen basis, at least
            one row; close is finite and positive, the others may be NaN.
        source: yahoo, csv, b3, sample, or cache.
        stale: whether newer sessions may exist, because no source with newer prices answered.
        warnings: the findings as sentences, and failures on the way.
        findings: of the quality check, in the range.
        tried: the sources that `auto` tried before, one reason per source.
    """

    symbol: Symbol
    table: pd.DataFrame
    source: str
    stale: bool
    warnings: tuple[str, ...]
    findings: tuple[quality.Finding, ...] = ()
    tried: tuple[str, ...] = ()

    @property
    def source_as_dict(self) -> dict[str, Any]:
        """The source and the reasons for it, as in the answer of POST /predict."""
        return {"name": self.source, "reasons": list(self.tried)}

    @property
    def range_as_dict(self) -> dict[str, Any]:
        """The range that the source had, as in the answer of POST /predict."""
        first = self.table["date"].iloc[0].date()
        return {"start": first.isoformat(), "end": self.as_of.isoformat(), "closes": len(self.table)}

    @property
    def closes(self) -> pd.DataFrame:
        """The columns date and close."""
        return self.table[["date", "close"]].copy()

    @property
    def as_of(self) -> date:
        """The day of the last close."""
        return last_day(self.table)


@dataclass(frozen=True)
class _History:
    """A source's whole history, checked; `raw` is the table before repairs, `last` the day of its last row."""

    raw: pd.DataFrame
    table: pd.DataFrame
    source: str
    stale: bool = False
    warnings: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()

    @property
    def last(self) -> date:
        return last_day(self.table)


class Downloader:
    """Prices of any stock from one choice of source.

    Args:
        source: auto, or a module of `prices/sources`. `auto` tries in order: the sample for its two indices, a fresh
            cache, Yahoo, the quotes stored by source=b3, a stale cache. The others never use another source.
        path: for source=csv a csv file, or a folder with <STOCK>.csv; for source=b3 COTAHIST files.
        price: adjusted (for splits and dividends, scaled to the last day of the range) or close (splits only).

    Raises:
        InvalidChoice: a source, a price basis or a combination that is not allowed.
    """

    def __init__(self, source: str = "auto", path: Path | str | None = None, price: PriceBasis = "adjusted") -> None:
        _refuse_unknown("source", source, ("auto", *SOURCES))
        _refuse_unknown("data.price", price, get_args(PriceBasis))
        if path and (source == "auto" or not source_class(source).reads_a_path):
            allowed = " or ".join(f"source={name}" for name in SOURCES if source_class(name).reads_a_path)
            raise InvalidChoice(f"source.path={path} is not used by source={source}. Use {allowed}, or leave it out.")
        self.source = source
        self.price: PriceBasis = price
        self.path = Path(os.path.expanduser(path)) if path else None  # Path("") would be the current folder
        if source != "auto":
            build(source, self.path)  # refuses a missing path now, not after an hour of a sweep
        self._logged: set[str] = set()

    def closes(self, symbol: Symbol | str, start: date | str, end: date | str | None = None) -> pd.DataFrame:
        """The columns date and close of `prices`."""
        return self.prices(symbol, start, end).closes

    def prices(self, symbol: Symbol | str, start: date | str, end: date | str | None = None, before: int = 0) -> Prices:
        """Checked prices from start to end, both inclusive, up to the last finished session.

        Args:
            symbol: VALE3, VALE3.SA, or a Symbol.
            start: ISO date.
            end: ISO date; None for the last finished session.
            before: number of sessions before `start` that are returned too, if the source has them.

        Raises:
            InvalidSymbol: not a ticker.
            InvalidDates: not a date, a reversed range, a start in the future.
            UnknownStock: the source has no such stock.
            PricesUnavailable: no source answered, or the answer has no rows in the range.
            BadPrices: the prices cannot be used.
        """
        symbol = Symbol.parse(str(symbol))
        first, last = parse_dates(start, end)
        return self._cut(symbol, self._history(symbol, first, last), first, last, before)

    def latest(self, symbol: Symbol | str, sessions: int, least: int | None = None) -> Prices:
        """Checked prices of the source's last sessions, fewer if the source has fewer.

        Args:
            symbol: VALE3, VALE3.SA, or a Symbol.
            sessions: the number to return.
            least: the number that a source that fetches by year must fetch; None for `sessions`.

        Raises:
            PregaoError: as `prices`.
        """
        symbol = Symbol.parse(str(symbol))
        finished = pd.Timestamp(calendar.last_finished_session(symbol.calendar))
        # Five days of seven have a session, except for holidays and for rarely traded stocks.
        needed = pd.Timedelta(days=2 * (sessions if least is None else least) + 30)
        history = self._history(symbol, (finished - needed).date(), None)
        days = history.table.loc[history.table["date"] <= finished, "date"].tail(sessions)
        first = finished if days.empty else days.iloc[0]
        return self._cut(symbol, history, first.date(), None)

    def _log(self, level: int, sentence: str) -> None:
        if sentence not in self._logged:
            logger.log(level, "%s", sentence)
            self._logged.add(sentence)

    def _history(self, symbol: Symbol, first: date, end: date | None) -> _History:
        if symbol.ticker == SHARED:
            raise UnknownStock(symbol, self.source, SHARED, "It is the model of many stocks. Name a stock, like VALE3.")
        return self._auto(symbol, first, end) if self.source == "auto" else self._ask(self.source, symbol, first, end)

    def _auto(self, symbol: Symbol, first: date, end: date | None) -> _History:
        if symbol.ticker in SAMPLES:
            return self._ask("sample", symbol, first, end)
        cached = self._cached(symbol)
        if cached is not None and is_fresh(cached.table, symbol, end):
            return cached
        tried = ["cache: none" if cached is None else f"cache: it ends on {cached.last}, and later sessions are over"]
        try:
            return replace(self._ask("yahoo", symbol, first, end), tried=tuple(tried))
        except (UnknownStock, PricesUnavailable, BadPrices) as error:
            refused = error
            why = error.tried if isinstance(error, PricesUnavailable) else [f"yahoo: {error}"]
        tried += why
        official, reason = self._stored_quotes(symbol, cached, first, end)
        if official is not None:
            return _fallback(symbol, official, f"B3's own quotes, which end on {official.last}", tried)
        tried.append(reason)
        if cached is not None:
            return replace(_fallback(symbol, cached, f"the cache, which ends on {cached.last}", tried), stale=True)
        if isinstance(refused, PricesUnavailable):
            tried = [f"sample: it has only {' and '.join(SAMPLES)}", *tried]
            raise PricesUnavailable(symbol, tried, _REMEDY) from refused
        raise refused

    def _cached(self, symbol: Symbol) -> _History | None:
        table = self._cache.read(symbol)
        return None if table is None else _History(table, table, "cache")

    def _stored_quotes(
        self, symbol: Symbol, cached: _History | None, first: date, end: date | None
    ) -> tuple[_History | None, str]:
        """Return the quotes stored by source=b3 if they are newer than the cache; otherwise None and the reason.

        Never downloads: a year is 100 MB, too slow for a forecast.
        """
        source = B3Source(None, first)
        try:
            history = self._checked("b3", symbol, source.stored(symbol), source, end)
        except PricesUnavailable as error:
            return None, "; ".join(error.tried)
        except (UnknownStock, BadPrices, OSError) as error:
            return None, f"b3: {error}"
        if cached is not None and history.last <= cached.last:
            return None, f"b3: the stored quotes end on {history.last}, not later than the cache"
        if cached is not None and (new := [jump for jump in likely_splits(history.table) if jump.day > cached.last]):
            return None, f"b3: after the end of the cache, a jump looks like an unconfirmed split ({new[0]})"
        return history, ""

    def _ask(self, name: str, symbol: Symbol, first: date, end: date | None) -> _History:
        source = build(name, self.path, first)
        raw = source.history(symbol)
        return self._checked(name, symbol, raw, source, end)

    def _checked(self, name: str, symbol: Symbol, raw: pd.DataFrame, source: Source, end: date | None) -> _History:
        if not source.writes_the_cache:
            remedy = "Correct the prices, or use another source=."
            table = quality.inspect(raw, symbol).usable(_origin(name, self.path), remedy)
            allowed = 0 if source.fetches_by_year and self.path is None else SESSIONS_WITHOUT_A_TRADE
            stale = not source.has_an_end and _is_stale(table, symbol, end, allowed)
            return _History(raw, table, name, stale, source.notes)
        raw = raw[raw["date"] <= pd.Timestamp(calendar.last_finished_session(symbol.calendar))]
        table = quality.inspect(raw, symbol).usable(_origin(name, None), f"Try again later. {_REMEDY}")
        refuse_worse(symbol, table, self._cache.read(symbol), self._cache.path(symbol))
        notes = (*source.notes, *source.accept(symbol), *self._keep(symbol, table))
        return _History(raw, table, name, _is_stale(table, symbol, end), notes)

    def _keep(self, symbol: Symbol, table: pd.DataFrame) -> tuple[str, ...]:
        """Write the cache; return a warning if that fails."""
        try:
            self._cache.write(symbol, table)
        except OSError as error:
            return (f"{symbol}: the prices were not cached in {self._cache.path(symbol)} ({error.strerror or error}).",)
        return ()

    def _cut(self, symbol: Symbol, history: _History, first: date, last: date | None, before: int = 0) -> Prices:
        finished = calendar.last_finished_session(symbol.calendar)
        last = finished if last is None else min(last, finished)
        if _between(history.table, first, last).empty:
            dates = history.table["date"].dt.date
            has = f"{history.source}: it has {dates.iloc[0]}..{dates.iloc[-1]}, nothing from {first} to {last}"
            remedy = f"Change start= and end= (the last finished session was {finished})."
            raise NothingInRange(symbol, [has, *history.warnings], remedy)
        earlier = history.table.loc[history.table["date"] < pd.Timestamp(first), "date"].tail(before)
        first = first if earlier.empty else earlier.iloc[0].date()
        table = _between(history.table, first, last)
        report = quality.inspect(_between(history.raw, first, last), symbol)
        table, lacking = self._adjustable(symbol, table, history.source)
        notes = report.notes + lacking
        if self.price == "adjusted" and table["adj_close"].isna().all():
            notes += (f"{symbol}: {history.source} has no adj_close: close is used, not adjusted for dividends.",)
        warnings = (*history.warnings, *notes)
        for reason in history.tried:
            if not any(reason in warning for warning in warnings):
                self._log(logging.INFO, f"{symbol}: {reason}.")
        for warning in warnings:
            self._log(logging.WARNING, warning)
        prices = on_basis(table, self.price)
        return Prices(symbol, prices, history.source, history.stale, warnings, report.findings, history.tried)

    def _adjustable(self, symbol: Symbol, table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The table without the rows that cannot be adjusted, and a note about them.

        Raises:
            BadPrices: the last row cannot be adjusted.
        """
        lacking = table["adj_close"].isna()
        if self.price == "close" or lacking.all() or not lacking.any():
            return table, ()
        days = list(table.loc[lacking, "date"].dt.date)
        what = f"rows with a close but without adj_close: {len(days)} ({first_five(days)})"
        if lacking.iloc[-1]:
            remedy = "The last row is one of them. Use data.price=close, or try again later."
            raise BadPrices(symbol, f"source={source}", [what], remedy)
        return table[~lacking], (f"{symbol}: {what}, left out of data.price=adjusted",)

    @property
    def _cache(self) -> Cache:
        return Cache(settings().data)


def _is_stale(table: pd.DataFrame, symbol: Symbol, end: date | None, allowed: int = SESSIONS_WITHOUT_A_TRADE) -> bool:
    """Whether a history lacks more than the allowed number of sessions up to `end`."""
    finished = calendar.last_finished_session(symbol.calendar)
    missed = calendar.sessions(symbol.calendar, last_day(table) + timedelta(days=1), min(end or finished, finished))
    return len(missed) > allowed


def _refuse_unknown(name: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidChoice(f"{name}={str(given)[:40]} is not known. Allowed: {', '.join(allowed)}.")


def _origin(source: str, path: Path | None) -> str:
    return f"source={source}" if path is None else f"source={source} source.path={path}"


def _between(table: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    return table[table["date"].between(pd.Timestamp(first), pd.Timestamp(last))].reset_index(drop=True)


def _fallback(symbol: Symbol, history: _History, origin: str, tried: list[str]) -> _History:
    """Add a warning that a history was not the first choice."""
    warning = f"{symbol}: prices from {origin}, because newer ones were not available ({'; '.join(tried[1:])})."
    return replace(history, warnings=(warning, *history.warnings), tried=tuple(tried))
