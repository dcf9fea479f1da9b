"""B3's daily quotes (COTAHIST): from the user's folder, or downloaded year by year from B3's public address."""

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
from pregao.prices.actions import Actions, ActionStore, adjusted
from pregao.prices.cotahist.fetch import Fetcher, FetchFailed
from pregao.prices.cotahist.layout import FIRST_YEAR_IN_REAIS
from pregao.prices.cotahist.store import Store, StoredFile
from pregao.prices.sources import Source
from pregao.prices.symbols import Symbol
from pregao.prices.table import first_five, shaped
from pregao.settings import settings

logger = logging.getLogger(__name__)

_QUOTES = re.compile(r"COTAHIST.*\.(?:TXT|ZIP)", re.IGNORECASE)
_YEARLY = re.compile(r"COTAHIST_A([0-9]{4})\.(?:TXT|ZIP)", re.IGNORECASE)
_EX_COUNT = re.compile(r"\bE[A-Z]*[BG]")  # ESPECI: ex-bonus or ex-reverse-split, alone or combined
_EX_PAID = re.compile(r"\bE[A-Z]*[DJR]")  # ESPECI: ex-dividend, ex-interest or ex-income
_SECONDS_BETWEEN_REQUESTS = 3600  # for the current year
_NEXT = (
    "Check the network, put the file of that address into {folder} by hand, or read your own prices with source=csv "
    "source.path=DIR."
)


class B3Source(Source):
    """`source=b3`: the exchange's prices, adjusted for known splits and dividends.

    Args:
        path: a folder of COTAHIST files, or one such file; only these are read. None for data/b3/, into which missing
            years are downloaded.
        since: the first day that is needed, earlier years are not downloaded; None for the current year only.
    """

    # Never cached: these prices would replace Yahoo's, which are adjusted for all dividends, in a later source=auto.
    reads_a_path = fetches_by_year = True

    fetcher: ClassVar[Fetcher] = Fetcher()

    def __init__(self, path: Path | None, since: date | None = None) -> None:
        if path is not None and not os.path.exists(path):
            remedy = "Give a folder of B3's COTAHIST files, or one of them."
            raise InvalidChoice(f"source.path={path} does not exist. {remedy}")
        self.path, self.since = path, since

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """All sessions of the present and the downloaded files; see `Source.history`."""
        self._refuse_other_markets(symbol)
        if self.path is None:
            with locked(self._folder / ".lock"):  # a second process finds the files that the first one downloaded
                self._fetch(symbol)
        files = self._files()
        if not files:
            reason = f"b3: {self._folder} has no file like COTAHIST_A2024.ZIP"
            remedy = "Give the folder that has B3's files, or leave out source.path= to download them."
            raise PricesUnavailable(symbol, [reason], remedy)
        self._store.update(files)
        return self._table(symbol)

    def stored(self, symbol: Symbol) -> pd.DataFrame:
        """The sessions that earlier calls have stored; reads no new files, and never the network.

        Raises:
            PricesUnavailable: a year from `since` on is missing, or all are.
            UnknownStock: the stored years have no such stock.
        """
        self._refuse_other_markets(symbol)
        if self._store.is_of_an_earlier_version:
            logger.info("B3's files are read again, once for this version.")
            self._update_store()
        years = self._years()
        first = max(self.since.year, FIRST_YEAR_IN_REAIS) if self.since else min(years, default=0)
        missing = [str(year) for year in range(first, max(years, default=0) + 1) if year not in years]
        if missing or not years:
            what = f"not downloaded yet: {', '.join(missing)}" if years else "nothing downloaded yet"
            raise PricesUnavailable(symbol, [f"b3: {what} (source=b3 does it)"], "Use source=b3.")
        return self._table(symbol)

    @property
    def _folder(self) -> Path:
        return self.path or settings().data / "b3"

    @property
    def _store(self) -> Store:
        """In data/b3/ even for the user's folder, which may be read-only."""
        if self.path is None:
            return Store(self._folder / "store")
        name = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:12]
        return Store(settings().data / "b3" / f"store-{name}")

    def _refuse_other_markets(self, symbol: Symbol) -> None:
        if symbol.calendar != "BVMF":
            raise UnknownStock(symbol, "b3", str(symbol), f"It has only B3's stocks. Use source=sample for {symbol}.")

    def _years(self) -> list[int]:
        """The years of yearly files: a day's or a month's file does not complete its year."""
        return sorted({known.year for name, known in self._store.files().items() if _YEARLY.fullmatch(name)})

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return [self._folder]
        return sorted(path for path in self._folder.iterdir() if _QUOTES.fullmatch(path.name) and path.is_file())

    def _table(self, symbol: Symbol) -> pd.DataFrame:
        quotes = self._store.quotes(symbol.ticker)
        if quotes.empty:
            asked = f"the cash market of {', '.join(map(str, self._years()))}"
            raise UnknownStock(symbol, "b3", asked, "Check the ticker, or give an earlier start= for a delisted stock.")
        yahoo, confirmed = ActionStore().read(symbol, "yahoo"), ActionStore().read(symbol, "confirmed")
        self.notes += self._unknown_actions(symbol, quotes, yahoo, confirmed)
        return shaped(adjusted(quotes, yahoo, confirmed))

    def _unknown_actions(
        self, symbol: Symbol, quotes: pd.DataFrame, yahoo: Actions, confirmed: Actions
    ) -> tuple[str, ...]:
        """Notes on actions that B3 marks and that are not known: too small to show as a jump."""
        if self.since is not None:
            quotes = quotes[quotes["date"] >= pd.Timestamp(self.since)]
        if yahoo.until is not None:
            quotes = quotes[quotes["date"] > pd.Timestamp(yahoo.until)]
        counts = [day for day in _first_days(quotes, _EX_COUNT) if day not in confirmed.splits]
        paid = _first_days(quotes, _EX_PAID)
        known = f"known only until {yahoo.until}" if yahoo.until else "unknown"
        notes = []
        if counts:
            remedy = f"pregao prices {symbol} confirm=DATE:RATIO (a bonus of 10 %: 1.1)"
            notes.append(
                f"{symbol}: B3 marks a bonus or reverse split on {first_five(counts)} that is not confirmed: prices "
                f"are not adjusted for it. Confirm its ratio: {remedy}."
            )
        if paid:
            notes.append(
                f"{symbol}: dividends are {known}; B3 marks {len(paid)} without their amounts ({first_five(paid)}): "
                "prices are not adjusted for them. An answer from Yahoo adds the amounts."
            )
        return tuple(notes)

    def _fetch(self, symbol: Symbol) -> None:
        """Download every missing year from `since` on, and the current year if B3 has a newer file."""
        self._update_store()
        finished = calendar.last_finished_session("BVMF")
        first = max(min(self.since or finished, finished).year, FIRST_YEAR_IN_REAIS)
        for year in range(first, finished.year + 1):
            needed = min(finished, calendar.last_session_until("BVMF", date(year, 12, 31)))
            self._fetch_year(symbol, year, needed)

    def _update_store(self) -> None:
        """Read the files of the folder; a file that cannot be used is renamed, never deleted, and downloaded again."""
        while True:
            try:
                return self._store.update(self._files())
            except BadQuotesFile as error:
                if isinstance(error.__cause__, OSError):
                    raise  # too many open files, a disk error: nothing is known about the content
                logger.warning("%s It is kept as %s.", error, set_aside(error.path))

    def _fetch_year(self, symbol: Symbol, year: int, needed: date) -> None:
        files = self._store.files().items()
        of_year = {name: file for name, file in files if file.year == year and _YEARLY.fullmatch(name)}
        if any(_covers(file, needed) for file in of_year.values()):
            return
        name = next(iter(of_year), f"COTAHIST_A{year}.ZIP")
        target, address = self._folder / name, f"{settings().b3_address}/{name}"
        asked = self._folder / f".{name}.asked"
        recent = asked.exists() and time.time() - asked.stat().st_mtime < _SECONDS_BETWEEN_REQUESTS
        if recent or not name.upper().endswith(".ZIP"):
            return
        try:
            self.fetcher.fetch(address, target, year)
            asked.touch()
        except FetchFailed as error:
            reason = f"b3: {address}: {error}"
            if name not in of_year and year - 1 in self._years() and year == needed.year == date.today().year:
                # B3 publishes the file of a year some time after the year's first session
                self.notes += (f"{symbol}: there is no file of {year} yet ({reason}); prices end in {year - 1}.",)
                return
            if name not in of_year:
                raise PricesUnavailable(symbol, [reason], _NEXT.format(folder=self._folder)) from None
            ends = f"{name}, which ends on {of_year[name].last_session}"
            self.notes += (f"{symbol}: {ends}, could not be renewed ({reason}); the old file is used.",)


def _covers(file: StoredFile, needed: date) -> bool:
    """Whether a file covers the session `needed`; a file written in a later year is complete."""
    return date.fromisoformat(file.last_session) >= needed or date.fromisoformat(file.generated).year > file.year


def _first_days(quotes: pd.DataFrame, mark: re.Pattern[str]) -> list[date]:
    """The sessions on which a mark starts, or continues with a changed distribution number."""
    marked = quotes["especi"].astype(str).str[4:7].str.contains(mark)
    new = marked & (~marked.shift(fill_value=False) | quotes["dismes"].ne(quotes["dismes"].shift()))
    return list(quotes.loc[new, "date"].dt.date)
