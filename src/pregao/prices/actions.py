"""Corporate actions: splits, reverse splits, bonuses, dividends; known ones are applied, likely ones are only listed.

B3's daily quotes are unadjusted. Yahoo's answers contain the actions, which are stored next to the price cache; the
user may confirm further splits. An unknown split shows as a jump of the price by a simple ratio.
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
"""New shares per old share. Smaller ratios (4:3, 5:4, bonuses) move a price no more than the market moved on 2017-05-18
and 2020-03-12: every stock would be listed on those days."""
RATIO_TOLERANCE = 0.05  # fraction; tolerance of the ratio, since the price also makes its usual overnight move
VOLUME_SESSIONS = 10  # before and after the jump, over which volumes are compared
LEAST_TURNOVER, MOST_TURNOVER = (
    0.25,
    2.0,
)  # turnover as a multiple of the turnover before; a crash raises it, a split does not

Origin = Literal["yahoo", "confirmed"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Actions(BaseModel):
    """The known actions of a stock.

    Attributes:
        splits: ex-date → new shares per old share: 2 for 2:1, 0.1 for a reverse split 1:10, 1.1 for a bonus of 10 %.
        dividends: ex-date → R$ per share, on the share count of the day `until`.
        until: the last session that the actions cover; None if dividends are unknown.
    """

    splits: dict[date, Positive] = {}
    dividends: dict[date, Positive] = {}
    until: date | None = None


@dataclass(frozen=True)
class ActionStore:
    """The stored actions of all stocks: Yahoo's, replaced by each answer, and those that the user confirmed."""

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
            reason = 'it is not of the form {"splits": {"2024-01-31": 2.0}, "dividends": {}, "until": null}'
            raise BadPrices(symbol, str(path), [reason], "Correct the file, or delete it.") from None

    def write(self, symbol: Symbol, origin: Origin, actions: Actions) -> Path:
        """Replace a stock's actions of one origin, and return their file.

        Raises:
            OSError: the file is unchanged.
        """
        path = self._path(symbol, origin)
        with atomic_write(path) as file:
            file.write_text(json.dumps(actions.model_dump(mode="json"), indent=1), encoding="utf-8")
        return path

    def confirm(self, symbol: Symbol, day: date, ratio: float) -> Path:
        """Add a confirmed split, and return its file; raises as `read` and `write`."""
        known = self.read(symbol, "confirmed")
        return self.write(symbol, "confirmed", known.model_copy(update={"splits": known.splits | {day: ratio}}))

    def _path(self, symbol: Symbol, origin: Origin) -> Path:
        return self.folder / f"{symbol}.{origin}.json"


def from_yahoo(frame: pd.DataFrame, until: date) -> Actions:
    """The actions in yfinance's columns `Dividends` and `Stock Splits`, which are zero on days without an action."""

    def events(name: str) -> dict[date, float]:
        column = frame.get(name, pd.Series()).astype("float64")
        days = [pd.Timestamp(day).date() for day in column.index]
        return {day: value for day, value in zip(days, column, strict=True) if 0 < value < float("inf")}

    return Actions(splits=events("Stock Splits"), dividends=events("Dividends"), until=until)


def adjusted(quotes: pd.DataFrame, yahoo: Actions, confirmed: Actions) -> pd.DataFrame:
    """Adjust the exchange's quotes for splits, and compute `adj_close` from the known dividends.

    Args:
        quotes: `date open high low close volume`, ascending, unadjusted.
        yahoo: takes precedence if both have a split on the same day.
        confirmed: its splits after `yahoo.until` also divide Yahoo's dividends, which are not adjusted for them.

    Returns:
        the table with `adj_close`: the close times 1 − dividend / previous close for each later dividend (Yahoo's
        formula); NaN in all rows if dividends are unknown.
    """
    splits = confirmed.splits | yahoo.splits
    count = _product_of_later(quotes["date"], splits)
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
    return table.assign(adj_close=table["close"] * _product_of_later(quotes["date"], kept))


def _product_of_later(dates: "pd.Series[pd.Timestamp]", factors: dict[date, float]) -> NDArray[np.float64]:
    """For each date the product of the factors of all later days [N]."""
    days = sorted(factors)
    products = np.append(np.cumprod([factors[day] for day in reversed(days)])[::-1], 1.0)
    place = np.searchsorted(np.array(days, "datetime64[us]"), dates.to_numpy("datetime64[us]"), side="right")
    return products[place]


@dataclass(frozen=True)
class LikelySplit:
    """A jump that looks like a split that the prices are not adjusted for.

    Attributes:
        day: the first session at the new price.
        ratio: new shares per old share.
    """

    day: date
    ratio: Fraction

    def __str__(self) -> str:
        return f"{self.ratio.numerator}:{self.ratio.denominator} on {self.day}"


def likely_splits(table: pd.DataFrame) -> list[LikelySplit]:
    """Jumps from a close to the next open by a simple ratio, if the volume changed by about the same ratio.

    Args:
        table: `date open close volume`, ascending; without volumes the result is empty.
    """
    closes, opens, volumes = (_positive(table[name]) for name in ("close", "open", "volume"))
    opens = np.where(np.isnan(opens), closes, opens)
    jumps = np.log(closes[:-1] / opens[1:])
    ratios = np.log([float(ratio) for ratio in RATIOS])
    nearest = np.abs(jumps[:, None] - ratios).argmin(axis=1) if len(jumps) else np.array([], int)
    matching = np.flatnonzero(np.abs(jumps - ratios[nearest]) <= np.log1p(RATIO_TOLERANCE))
    return [
        LikelySplit(table["date"].iloc[row].date(), ratio)
        for row, ratio in zip(matching + 1, [RATIOS[place] for place in nearest[matching]], strict=True)
        if _confirmed_by_volume(
            volumes[max(0, row - VOLUME_SESSIONS) : row], volumes[row : row + VOLUME_SESSIONS], ratio
        )
    ]


def _positive(column: "pd.Series[float]") -> NDArray[np.float64]:
    numbers = column.to_numpy("float64")
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)


def _confirmed_by_volume(before: NDArray[np.float64], after: NDArray[np.float64], ratio: Fraction) -> bool:
    """Whether the volume in shares moved more than half way (in logs) to the ratio, and turnover stayed similar."""
    if not (before > 0).any() or not (after > 0).any():
        return False
    shares = float(np.median(after[after > 0]) / np.median(before[before > 0]))
    alike = np.log(shares) / np.log(float(ratio)) > 0.5
    return bool(alike and LEAST_TURNOVER < shares / float(ratio) < MOST_TURNOVER)
