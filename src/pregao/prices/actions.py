"""Corporate actions: splits, reverse splits, bonuses, dividends; known ones are applied, likely ones are only listed.

B3's daily quotes are as traded. Yahoo's answers contain the actions, which are stored next to the price cache; a person
may confirm others. An unknown split shows as a jump of the price by a simple ratio.
"""

import json
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from pregao.errors import BadPrices
from pregao.files import atomic_write
from pregao.prices.symbols import Symbol
from pregao.settings import settings

_WHOLE = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 50, 100, 1000)
RATIOS = tuple(sorted({Fraction(n) for n in _WHOLE} | {Fraction(1, n) for n in _WHOLE} | {Fraction(3, 2)}))
"""New papers for an old one. Smaller ones (4:3, 5:4, bonuses) move a price no more than the days of 2017-05-18 and
2020-03-12 did, which would all be listed."""
OFF = 0.05  # fraction; how far a first price may lie from the ratio, since the night goes on beside the split
SESSIONS = 10  # before and after, over which volumes are compared
LEAST_MONEY, MOST_MONEY = 0.25, 2.0  # times before; a crash multiplies what changes hands, a split does not

Origin = Literal["yahoo", "confirmed"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Actions(BaseModel):
    """What is known of a stock's actions.

    Attributes:
        splits: first day on the new count → new papers for an old one: 2 for 2:1, 0.1 for a reverse split 1:10, 1.1
            for a bonus of 10 %.
        dividends: first day without it → money for one paper, on the paper's count of `until`.
        until: the last session that whoever knows them has seen; None where nobody does.
    """

    splits: dict[date, Positive] = {}
    dividends: dict[date, Positive] = {}
    until: date | None = None


@dataclass(frozen=True)
class Book:
    """The stored actions of all stocks, by origin: Yahoo's, replaced with each answer, and those a person confirmed."""

    folder: Path = field(default_factory=lambda: settings().data / "actions")

    def read(self, symbol: Symbol, origin: Origin) -> Actions:
        """Return a stock's actions of one origin; empty if there are none.

        Raises:
            BadPrices: the file cannot be used.
        """
        path = self._path(symbol, origin)
        try:
            return Actions.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Actions()
        except (OSError, UnicodeDecodeError, ValidationError):
            reason = 'it is no {"splits": {"2024-01-31": 2.0}, "dividends": {}, "until": null}'
            raise BadPrices(symbol, str(path), [reason], "Correct the file, or delete it.") from None

    def write(self, symbol: Symbol, origin: Origin, actions: Actions) -> Path:
        """Replace a stock's actions of one origin, and return their file.

        Raises:
            OSError: nothing was changed.
        """
        path = self._path(symbol, origin)
        with atomic_write(path) as file:
            file.write_text(json.dumps(actions.model_dump(mode="json"), indent=1), encoding="utf-8")
        return path

    def confirm(self, symbol: Symbol, day: date, ratio: float) -> Path:
        """Add a confirmed split, and return its file; errors of `write`."""
        known = self.read(symbol, "confirmed")
        return self.write(symbol, "confirmed", known.model_copy(update={"splits": known.splits | {day: ratio}}))

    def _path(self, symbol: Symbol, origin: Origin) -> Path:
        return self.folder / f"{symbol}.{origin}.json"


def of_yahoo(frame: pd.DataFrame, until: date) -> Actions:
    """Out of yfinance's columns `Dividends` and `Stock Splits`, which are zero on all other days."""

    def events(name: str) -> dict[date, float]:
        column = frame.get(name, pd.Series()).astype("float64")
        days = [pd.Timestamp(day).date() for day in column.index]
        return {day: value for day, value in zip(days, column, strict=True) if 0 < value < float("inf")}

    return Actions(splits=events("Stock Splits"), dividends=events("Dividends"), until=until)


def applied(quotes: pd.DataFrame, yahoo: Actions, confirmed: Actions) -> pd.DataFrame:
    """Put the exchange's quotes on today's count of papers, and take known dividends out of `adj_close`.

    Args:
        quotes: `date open high low close volume`, ascending, as traded on the day.
        yahoo: counts where both know a split of the same day.
        confirmed: its splits after `yahoo.until` also divide Yahoo's dividends, which know nothing of them.

    Returns:
        the same with `adj_close`: the close times 1 − dividend / close before it, for each later dividend (Yahoo's own
        formula); NaN throughout where nobody knows the dividends.
    """
    splits = confirmed.splits | yahoo.splits
    count = _later(quotes["date"], splits)
    prices = {name: quotes[name] / count for name in ("open", "high", "low", "close")}
    table = quotes.assign(**prices, volume=quotes["volume"] * count)
    if yahoo.until is None:
        return table.assign(adj_close=float("nan"))
    since = float(np.prod([ratio for day, ratio in splits.items() if day > yahoo.until]))
    before = pd.Series(table["close"].to_numpy(), index=pd.DatetimeIndex(table["date"]))
    kept = {}
    for day, paid in yahoo.dividends.items():
        earlier = before[: pd.Timestamp(day) - pd.Timedelta(days=1)]
        if not earlier.empty:
            kept[day] = 1 - paid / since / float(earlier.iloc[-1])
    return table.assign(adj_close=table["close"] * _later(quotes["date"], kept))


def _later(dates: "pd.Series[pd.Timestamp]", factors: dict[date, float]) -> NDArray[np.float64]:
    """For each date the product of all factors of later days [N]; a factor holds from its day on."""
    days = sorted(factors)
    from_here_on = np.append(np.cumprod([factors[day] for day in reversed(days)])[::-1], 1.0)
    which = np.searchsorted(np.array(days, "datetime64[us]"), dates.to_numpy("datetime64[us]"), side="right")
    return from_here_on[which]


@dataclass(frozen=True)
class Suspicion:
    """A jump that looks like a split which nobody has applied.

    Attributes:
        day: the first session at the new price.
        ratio: new papers for an old one.
    """

    day: date
    ratio: Fraction

    def __str__(self) -> str:
        return f"{self.ratio.numerator}:{self.ratio.denominator} on {self.day}"


def suspected(table: pd.DataFrame) -> list[Suspicion]:
    """Jumps from a close to the next open that match a simple ratio, where the papers traded changed by it too.

    Args:
        table: `date open close volume`, ascending; without volumes nothing is suspected.
    """
    closes, opens, volumes = (_positive(table[name]) for name in ("close", "open", "volume"))
    opens = np.where(np.isnan(opens), closes, opens)
    jumps = np.log(closes[:-1] / opens[1:])
    ratios = np.log([float(ratio) for ratio in RATIOS])
    nearest = np.abs(jumps[:, None] - ratios).argmin(axis=1) if len(jumps) else np.array([], int)
    matching = np.flatnonzero(np.abs(jumps - ratios[nearest]) <= np.log1p(OFF))
    return [
        Suspicion(table["date"].iloc[row].date(), ratio)
        for row, ratio in zip(matching + 1, [RATIOS[place] for place in nearest[matching]], strict=True)
        if _confirmed_by_volume(volumes[max(0, row - SESSIONS) : row], volumes[row : row + SESSIONS], ratio)
    ]


def _positive(column: "pd.Series[float]") -> NDArray[np.float64]:
    numbers = column.to_numpy("float64")
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)


def _confirmed_by_volume(before: NDArray[np.float64], after: NDArray[np.float64], ratio: Fraction) -> bool:
    """Did the papers traded change more like the ratio than like nothing, and the money by little?"""
    if not (before > 0).any() or not (after > 0).any():
        return False
    papers = float(np.median(after[after > 0]) / np.median(before[before > 0]))
    alike = np.log(papers) / np.log(float(ratio)) > 0.5
    return bool(alike and LEAST_MONEY < papers / float(ratio) < MOST_MONEY)
