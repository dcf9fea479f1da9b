"""B3's own daily quotes (COTAHIST): of a user's folder, or fetched year by year from B3's public address."""

import hashlib
import logging
import os
import re
import time
from datetime import date
from pathlib import Path
from typing import ClassVar

import pandas as pd

from pregao.errors import BadQuotesFile, InvalidChoice, PricesUnavailable, UnknownStock
from pregao.files import locked, set_aside
from pregao.prices import calendar
from pregao.prices.actions import Actions, Book, applied
from pregao.prices.cotahist.fetch import Fetcher, Unfetched
from pregao.prices.cotahist.layout import FIRST_YEAR_IN_REAIS
from pregao.prices.cotahist.store import Known, Store
from pregao.prices.sources import Source
from pregao.prices.symbols import Symbol
from pregao.prices.table import shaped
from pregao.settings import settings

logger = logging.getLogger(__name__)

_QUOTES = re.compile(r"COTAHIST.*\.(?:TXT|ZIP)", re.IGNORECASE)
_YEARLY = re.compile(r"COTAHIST_A([0-9]{4})\.(?:TXT|ZIP)", re.IGNORECASE)
_EX_COUNT = re.compile(r"\bE[A-Z]*[BG]")  # ESPECI: ex-bonus or ex-reverse-split, alone or with others
_EX_PAID = re.compile(r"\bE[A-Z]*[DJR]")  # ex-dividend, -interest, -income
_SECONDS_BETWEEN_QUESTIONS = 3600  # whether the year that goes on has grown
_SHOWN = 5
_NEXT = (
    "Check the network, put the file of that address into {folder} by hand, or read your own prices with source=csv "
    "source.path=DIR."
)


class B3Source(Source):
    """`source=b3`: prices as traded, with known splits and dividends taken into account.

    Args:
        path: a folder of COTAHIST files, or one such file, of which nothing but that is read; None for data/b3/, where
            missing years are fetched.
        since: the first day that is needed, earlier years are not fetched; None for this year alone.
    """

    # Its quotes have a store of their own: in data/<STOCK>.csv they would replace Yahoo's dividends, and a later
    # source=auto could not tell.
    reads_a_path = fetches_by_year = True

    fetcher: ClassVar[Fetcher] = Fetcher()

    def __init__(self, path: Path | None, since: date | None = None) -> None:
        if path is not None and not os.path.exists(path):
            raise InvalidChoice(
                f"source.path={path} does not exist. Give a folder of B3's COTAHIST files, or one of them."
            )
        self.path = path
        self.since = since
        self.notes = ()

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """All sessions of the files that are at hand or were fetched; see `Source.history`."""
        self._refuse_foreign(symbol)
        if self.path is None:
            with locked(self._folder / ".lock"):  # the second process finds the files that the first one fetched
                self._fetch(symbol)
        files = self._files()
        if not files:
            raise PricesUnavailable(
                symbol,
                [f"b3: {self._folder} has no file like COTAHIST_A2024.ZIP"],
                "Give the folder that has B3's files, or leave source.path= out to have them fetched.",
            )
        self._store.update(files)
        return self._table(symbol)

    def stored(self, symbol: Symbol) -> pd.DataFrame:
        """What earlier calls have left, from `since` on without a hole: asks no network and reads no new file.

        Raises:
            PricesUnavailable: nothing is there, or a year that is needed is not.
            UnknownStock: it has no such stock.
        """
        self._refuse_foreign(symbol)
        years = {known.year for known in self._store.files().values()}
        if not years:
            raise PricesUnavailable(symbol, ["b3: nothing fetched yet (source=b3 does)"], "Use source=b3.")
        first = max(self.since.year, FIRST_YEAR_IN_REAIS) if self.since else min(years)
        missing = [str(year) for year in range(first, max(years) + 1) if year not in years]
        if missing:
            reason = f"b3: not fetched yet: {', '.join(missing)} (source=b3 does)"
            raise PricesUnavailable(symbol, [reason], "Use source=b3.")
        return self._table(symbol)

    @property
    def _folder(self) -> Path:
        return self.path or settings().data / "b3"

    @property
    def _store(self) -> Store:
        """Of data/b3/ there, of a user's folder in one of its own: that may be read-only."""
        if self.path is None:
            return Store(self._folder / "store")
        name = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:12]
        return Store(settings().data / "b3" / f"store-{name}")

    def _refuse_foreign(self, symbol: Symbol) -> None:
        if symbol.calendar != "BVMF":
            raise UnknownStock(symbol, "b3", str(symbol), f"It has B3's stocks only. Use source=sample for {symbol}.")

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return [self._folder]
        return sorted(path for path in self._folder.iterdir() if _QUOTES.fullmatch(path.name) and path.is_file())

    def _table(self, symbol: Symbol) -> pd.DataFrame:
        quotes = self._store.quotes(symbol.ticker)
        if quotes.empty:
            years = sorted({known.year for known in self._store.files().values()})
            asked = f"the cash market of {', '.join(map(str, years))}"
            raise UnknownStock(symbol, "b3", asked, "Check the ticker, or widen start= if it was traded earlier only.")
        yahoo, confirmed = Book().read(symbol, "yahoo"), Book().read(symbol, "confirmed")
        self.notes += self._marked(symbol, quotes, yahoo, confirmed)
        return shaped(applied(quotes, yahoo, confirmed))

    def _marked(self, symbol: Symbol, quotes: pd.DataFrame, yahoo: Actions, confirmed: Actions) -> tuple[str, ...]:
        """What B3 itself marks as ex-something, and no known action explains: too small to show as a jump."""
        recent = quotes if self.since is None else quotes[quotes["date"] >= pd.Timestamp(self.since)]
        open_ones = recent if yahoo.until is None else recent[recent["date"] > pd.Timestamp(yahoo.until)]
        confirmed_days = {pd.Timestamp(day) for day in confirmed.splits}
        counts = [day for day in _first_days(open_ones, _EX_COUNT) if day not in confirmed_days]
        paid = _first_days(open_ones, _EX_PAID)
        known = f"known until {yahoo.until} only" if yahoo.until else "unknown"
        notes = []
        if counts:
            notes.append(
                f"{symbol}: B3 marks a bonus or reverse split on {_listed(counts)} that nobody has confirmed; it stays "
                f"in the prices. With its ratio: pregao prices {symbol} confirm=DATE:RATIO (a bonus of 10 %: "
                "1.1)."
            )
        if paid:
            notes.append(
                f"{symbol}: dividends are {known}; B3 marks {len(paid)} of which the money is not at hand "
                f"({_listed(paid)}): they stay in the prices. An answer of Yahoo's brings it."
            )
        return tuple(notes)

    def _fetch(self, symbol: Symbol) -> None:
        """Have every year since `since`, and the one that goes on as B3 has it today."""
        self._take_in()
        finished = calendar.last_finished_session("BVMF")
        first = max(min(self.since or finished, finished).year, FIRST_YEAR_IN_REAIS)
        for year in range(first, finished.year + 1):
            needed = min(finished, calendar.last_session_until("BVMF", date(year, 12, 31)))
            self._fetch_year(symbol, year, needed)

    def _take_in(self) -> None:
        """Read what is at hand; a file that cannot be used is moved aside, never deleted, and is fetched anew."""
        while True:
            try:
                return self._store.update(self._files())
            except BadQuotesFile as error:
                logger.warning("%s It is kept as %s.", error, set_aside(error.path))

    def _fetch_year(self, symbol: Symbol, year: int, needed: date) -> None:
        known = self._store.files()
        of_year = {name: file for name, file in known.items() if file.year == year}
        if any(_reaches(file, needed) for file in of_year.values()):
            return
        name = next(filter(_YEARLY.fullmatch, of_year), f"COTAHIST_A{year}.ZIP")
        target, address = self._folder / name, f"{settings().b3_address}/{name}"
        asked = self._folder / f".{name}.asked"
        if not name.upper().endswith(".ZIP") or _is_recent(asked):
            return
        try:
            self.fetcher.fetch(address, target, year)
            asked.touch()
        except Unfetched as error:
            reason = f"b3: {address}: {error}"
            if name not in of_year:
                raise PricesUnavailable(symbol, [reason], _NEXT.format(folder=self._folder)) from None
            last = of_year[name].last_session
            self.notes += (
                f"{symbol}: {name}, which ends on {last}, could not be renewed ({reason}); it is used as it is.",
            )


def _reaches(file: Known, needed: date) -> bool:
    """Does a file have the year's last session that there can be? One that was written in a later year has all."""
    return date.fromisoformat(file.last_session) >= needed or date.fromisoformat(file.generated).year > file.year


def _is_recent(asked: Path) -> bool:
    try:
        return time.time() - asked.stat().st_mtime < _SECONDS_BETWEEN_QUESTIONS
    except FileNotFoundError:
        return False


def _first_days(quotes: pd.DataFrame, mark: re.Pattern[str]) -> list[pd.Timestamp]:
    """The sessions on which a mark appears, or appears anew: with a changed distribution number."""
    marked = quotes["especi"].astype(str).str[4:7].str.contains(mark)
    new = marked & (~marked.shift(fill_value=False) | quotes["dismes"].ne(quotes["dismes"].shift()))
    return quotes.loc[new, "date"].tolist()


def _listed(days: list[pd.Timestamp]) -> str:
    return ", ".join(str(day.date()) for day in days[:_SHOWN]) + (", …" if len(days) > _SHOWN else "")
