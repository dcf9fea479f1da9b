"""The quality check: finds every defect of a price table in one pass, and refuses, repairs or warns."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import pandas as pd

from pregao.errors import BadPrices
from pregao.prices import calendar
from pregao.prices.actions import likely_splits
from pregao.prices.symbols import Symbol
from pregao.prices.table import first_five

Verdict = Literal["refused", "repaired", "warned"]
LARGEST_MOVE = 0.25  # fraction of the previous close; larger moves are mostly spin-offs or splits not adjusted for
STALE_RUN = 5  # sessions in a row with the same close
LARGE_MOVES = f"daily moves over {LARGEST_MOVE:.0%}"
MISSING_SESSIONS = "sessions missing"
STALE_CLOSES = f"runs of {STALE_RUN} or more identical closes"
EARLIEST = date(1900, 1, 1)
_PRICES = ["open", "high", "low", "close", "adj_close"]


@dataclass(frozen=True)
class Finding:
    """One kind of defect.

    Attributes:
        what: the kind of defect.
        count: number of affected rows; for stale closes, of runs.
        dates: all affected dates; for stale closes, the first of each run.
        verdict: how it was handled.
    """

    what: str
    count: int
    dates: tuple[date, ...]
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.what}: {self.count}" + (f" ({first_five(self.dates)})" if self.dates else "")


@dataclass(frozen=True)
class QualityReport:
    """The findings of `inspect`, and the repaired table."""

    symbol: Symbol
    table: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Defects that make the table unusable."""
        return tuple(finding for finding in self.findings if finding.verdict == "refused")

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence per finding."""
        return tuple(f"{self.symbol}: {finding}, {finding.verdict}" for finding in self.findings)

    def usable(self, origin: str, remedy: str) -> pd.DataFrame:
        """The repaired table.

        Raises:
            BadPrices: with all refused findings.
        """
        if self.refused:
            raise BadPrices(self.symbol, origin, [str(finding) for finding in self.refused], remedy)
        return self.table


def inspect(table: pd.DataFrame, symbol: Symbol, today: date | None = None) -> QualityReport:
    """Check a source's table (columns of `table.COLUMNS`).

    Args:
        table: not modified.
        symbol: its calendar decides which sessions are missing.
        today: later dates are in the future; by default the latest current date on Earth (UTC+14).
    """
    today = today or (datetime.now(UTC) + timedelta(hours=14)).date()
    dates = table["date"]
    findings = [
        *_finding("dates in the future", dates[dates > pd.Timestamp(today)], "refused"),
        *_finding(f"dates before {EARLIEST.year}", dates[dates < pd.Timestamp(EARLIEST)], "refused"),
        *_impossible_prices(table),
    ]
    repaired = table
    for step in (_order, _drop_empty, _drop_repeated, _without_a_range, _empty_zeros):
        repaired, found = step(repaired)
        findings += found
    repaired = repaired.reset_index(drop=True)
    if repaired.empty:
        findings.append(Finding("no row with a price", 1, (), "refused"))
    elif not any(finding.what.startswith("dates") for finding in findings):
        findings += _against_calendar(repaired["date"], symbol)
    moves = repaired["close"].pct_change().abs()
    findings += _finding(LARGE_MOVES, repaired.loc[moves > LARGEST_MOVE, "date"], "warned")
    findings += [*_unapplied_splits(repaired), *_stale_runs(repaired)]
    return QualityReport(symbol, repaired, tuple(findings))


def _finding(what: str, dates: Iterable[pd.Timestamp], verdict: Verdict) -> list[Finding]:
    days = [day.date() for day in dates]
    return [Finding(what, len(days), tuple(days), verdict)] if days else []


def _impossible_prices(table: pd.DataFrame) -> list[Finding]:
    infinite = table[_PRICES].abs() == float("inf")
    wrong = ((table[_PRICES] < 0) & ~infinite).any(axis=1) | (table[["close", "adj_close"]] == 0).any(axis=1)
    return [
        *_finding("infinite prices", table.loc[infinite.any(axis=1), "date"], "refused"),
        *_finding("prices of zero or less", table.loc[wrong, "date"], "refused"),
    ]


def _order(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    backwards = table["date"].diff() < pd.Timedelta(0)
    found = _finding("rows out of order", table.loc[backwards, "date"], "repaired")
    return table.sort_values("date", kind="stable"), found


def _drop_empty(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    empty = table["close"].isna()
    return table[~empty], _finding("rows without a close", table.loc[empty, "date"], "repaired")


def _drop_repeated(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Keep the later of two rows with the same date and closes: Yahoo's live row differs only in its volume."""
    later = table.duplicated("date")
    same = table.duplicated(["date", "close", "adj_close"])
    contradicting = table.loc[later & ~same, "date"].drop_duplicates()
    found = [
        *_finding("repeated rows", table.loc[same, "date"], "repaired"),
        *_finding("dates with two different closes", contradicting, "refused"),
    ]
    return table.drop_duplicates("date", keep="last"), found


def _without_a_range(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Report the rows without open, high or low, unless the source never has them; volatilities leave them out."""
    columns = [name for name in ("open", "high", "low") if table[name].notna().any()]
    missing = table.loc[table[columns].isna().any(axis=1), "date"]
    return table, _finding("rows without open, high or low", missing, "warned")


def _empty_zeros(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Replace zeros by NaN: Yahoo and B3 write a missing open, high or low as zero; that day's close is valid."""
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


def _unapplied_splits(table: pd.DataFrame) -> list[Finding]:
    """Likely splits, which are never applied unless the user confirms them: see `pregao prices --help`."""
    found, findings = likely_splits(table), []
    for ratio in sorted({split.ratio for split in found}):
        days = [pd.Timestamp(split.day) for split in found if split.ratio == ratio]
        name = f"{ratio.numerator}:{ratio.denominator} split"
        findings += _finding(f"jumps like a {name} that the prices are not adjusted for", days, "warned")
    return findings


def _stale_runs(table: pd.DataFrame) -> list[Finding]:
    run = table["close"].diff().ne(0).cumsum()
    starts = table.groupby(run)["date"].agg(["first", "size"])
    long = starts.loc[starts["size"] >= STALE_RUN, "first"]
    return _finding(STALE_CLOSES, long, "warned")
