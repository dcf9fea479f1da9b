"""Can these prices be trusted? Every defect of a table, found in one pass: refused, repaired or warned about."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import pandas as pd

from pregao.errors import BadPrices
from pregao.prices import calendar
from pregao.prices.actions import suspected
from pregao.prices.symbols import Symbol

Verdict = Literal["refused", "repaired", "warned"]
LARGEST_MOVE = 0.25  # fraction of the day before; a spin-off or a forgotten split moves more, a trading day hardly ever
STALE_RUN = 5  # sessions in a row with the same close
LARGE_MOVES = f"daily moves over {LARGEST_MOVE:.0%}"
MISSING_SESSIONS = "sessions missing"
STALE_CLOSES = f"runs of {STALE_RUN} or more identical closes"
EARLIEST = date(1900, 1, 1)
_SHOWN = 5
_PRICES = ["open", "high", "low", "close", "adj_close"]


@dataclass(frozen=True)
class Finding:
    """One kind of defect.

    Attributes:
        what: the defect in words.
        count: rows (for stale closes: runs) that have it.
        dates: all dates that have it.
        verdict: what became of it.
    """

    what: str
    count: int
    dates: tuple[date, ...]
    verdict: Verdict

    def __str__(self) -> str:
        shown = self.dates[:_SHOWN]
        dates = ", ".join(map(str, shown)) + (", …" if self.count > len(shown) else "")
        return f"{self.what}: {self.count}" + (f" ({dates})" if dates else "")


@dataclass(frozen=True)
class QualityReport:
    """What `inspect` found, and the table with everything repaired that can be repaired."""

    symbol: Symbol
    table: pd.DataFrame
    findings: tuple[Finding, ...]

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        """The findings of one verdict."""
        return tuple(finding for finding in self.findings if finding.verdict == verdict)

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Defects that make the table unusable."""
        return self.of("refused")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about a usable table, one sentence a finding."""
        return tuple(f"{self.symbol}: {finding}, {finding.verdict}" for finding in self.findings)

    def usable(self, origin: str, remedy: str) -> pd.DataFrame:
        """The repaired table.

        Raises:
            BadPrices: with every refused finding.
        """
        if self.refused:
            raise BadPrices(self.symbol, origin, [str(finding) for finding in self.refused], remedy)
        return self.table


def inspect(table: pd.DataFrame, symbol: Symbol, today: date | None = None) -> QualityReport:
    """Check a source's table (columns of `table.COLUMNS`).

    Args:
        table: left as it is.
        symbol: its calendar tells which sessions are missing.
        today: days after it are in the future; the latest day anywhere on Earth unless given.
    """
    today = today or (datetime.now(UTC) + timedelta(hours=14)).date()
    findings = [*_impossible_dates(table, today), *_impossible_prices(table)]
    repaired, repairs = _repair(table)
    findings += repairs
    if repaired.empty:
        findings.append(Finding("no row with a price", 1, (), "refused"))
    elif not any(finding.what.startswith("dates") for finding in findings):
        findings += _against_calendar(repaired["date"], symbol)
    findings += [*_large_moves(repaired), *_unapplied_splits(repaired), *_stale_runs(repaired)]
    return QualityReport(symbol, repaired, tuple(findings))


def _finding(what: str, dates: Iterable[pd.Timestamp], verdict: Verdict) -> list[Finding]:
    days = [day.date() for day in dates]
    return [Finding(what, len(days), tuple(days), verdict)] if days else []


def _impossible_dates(table: pd.DataFrame, today: date) -> list[Finding]:
    dates = table["date"]
    return [
        *_finding("dates in the future", dates[dates > pd.Timestamp(today)], "refused"),
        *_finding(f"dates before {EARLIEST.year}", dates[dates < pd.Timestamp(EARLIEST)], "refused"),
    ]


def _impossible_prices(table: pd.DataFrame) -> list[Finding]:
    infinite = (table[_PRICES].abs() == float("inf")).any(axis=1)
    negative = ((table[_PRICES] < 0) & (table[_PRICES] > float("-inf"))).any(axis=1)
    zero = (table[["close", "adj_close"]] == 0).any(axis=1)
    return [
        *_finding("infinite prices", table.loc[infinite, "date"], "refused"),
        *_finding("prices of zero or less", table.loc[negative | zero, "date"], "refused"),
    ]


def _repair(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Sort, drop rows without a close, drop repeated rows, empty the zeros that mean «no such price»."""
    findings: list[Finding] = []
    for step in (_order, _drop_empty, _drop_repeated, _empty_zeros):
        table, found = step(table)
        findings += found
    return table.reset_index(drop=True), findings


def _order(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    backwards = table["date"].diff() < pd.Timedelta(0)
    found = _finding("rows out of order", table.loc[backwards, "date"], "repaired")
    return table.sort_values("date", kind="stable"), found


def _drop_empty(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    empty = table["close"].isna()
    if table["adj_close"].notna().any():  # a source without adj_close at all is no defect; one with holes is
        empty |= table["adj_close"].isna()
    return table[~empty], _finding("rows without a close", table.loc[empty, "date"], "repaired")


def _drop_repeated(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """A date may come twice with the same closes (Yahoo's live row differs in its volume only): the later one stays."""
    later = table.duplicated("date")
    same = table.duplicated(["date", "close", "adj_close"])
    contradicting = table.loc[later & ~same, "date"].drop_duplicates()
    found = [
        *_finding("repeated rows", table.loc[same, "date"], "repaired"),
        *_finding("dates with two different closes", contradicting, "refused"),
    ]
    return table.drop_duplicates("date", keep="last"), found


def _empty_zeros(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Zero is how Yahoo and B3 write an open, high or low that never was; the close of such a day still holds."""
    columns = ["open", "high", "low"]
    zero = table[columns] == 0
    found = _finding("open, high or low of zero", table.loc[zero.any(axis=1), "date"], "repaired")
    return table.assign(**{name: table[name].mask(zero[name]) for name in columns}), found


def _against_calendar(dates: "pd.Series[pd.Timestamp]", symbol: Symbol) -> list[Finding]:
    days = pd.DatetimeIndex(dates)
    expected = calendar.sessions(symbol.calendar, days[0].date(), days[-1].date())
    return [
        *_finding(MISSING_SESSIONS, expected.difference(days), "warned"),
        *_finding("rows on days without a session", days.difference(expected), "warned"),
    ]


def _large_moves(table: pd.DataFrame) -> list[Finding]:
    moves = table["close"].pct_change().abs()
    return _finding(LARGE_MOVES, table.loc[moves > LARGEST_MOVE, "date"], "warned")


def _unapplied_splits(table: pd.DataFrame) -> list[Finding]:
    """Listed, and never applied on a jump's word: `pregao prices --help` tells how to confirm one."""
    found = suspected(table)
    ratios = sorted({suspicion.ratio for suspicion in found})
    return [
        finding
        for ratio in ratios
        for finding in _finding(
            f"jumps like a {ratio.numerator}:{ratio.denominator} split that the prices do not take into account",
            [pd.Timestamp(suspicion.day) for suspicion in found if suspicion.ratio == ratio],
            "warned",
        )
    ]


def _stale_runs(table: pd.DataFrame) -> list[Finding]:
    run = table["close"].diff().ne(0).cumsum()
    starts = table.groupby(run)["date"].agg(["first", "size"])
    long = starts.loc[starts["size"] >= STALE_RUN, "first"]
    return _finding(STALE_CLOSES, long, "warned")
