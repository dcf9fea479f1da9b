"""Prices → windows: sliding [N, lookback] inputs and [N, horizon] targets, split by date without look-ahead."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.data.volatility import volatilities
from pregao.errors import TooFewSessions

REFERENCE_BORDER = pd.Timestamp("2023-11-24")
"""The first date that judges in the published comparison, for every stock."""

REFERENCE_END = "2025-07-27"
"""The last day of the published comparison."""


@dataclass(frozen=True)
class Windows:
    """Sliding windows of one or more stocks, each stock's together and oldest first.

    Attributes:
        inputs: closes that a forecast sees, in the stock's currency.
        volatilities: daily volatilities as known at the cutoff, float32; NaN where unknown.
        targets: the closes that follow.
        cutoffs: `[N]` the date of each window's last input, as datetime64[ns].
        dates: `[N, horizon]` the dates of the targets.
        stocks: `[N]` the tickers.
    """

    inputs: Float[np.ndarray, "n lookback"]
    volatilities: Float[np.ndarray, "n measures"]
    targets: Float[np.ndarray, "n horizon"]
    cutoffs: np.ndarray
    dates: np.ndarray
    stocks: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return int(self.targets.shape[1])

    def where(self, mask: np.ndarray | slice) -> "Windows":
        """The windows that a boolean `[N]` mask or a slice keeps."""
        return Windows(*(getattr(self, part.name)[mask] for part in fields(self)))

    def by_stock(self) -> Iterator[tuple[str, slice]]:
        """Each ticker with the place of its windows."""
        begins = [0, *(np.flatnonzero(self.stocks[1:] != self.stocks[:-1]) + 1), len(self)] if len(self) else [0]
        for begin, end in pairwise(begins):
            yield str(self.stocks[begin]), slice(int(begin), int(end))


@dataclass(frozen=True)
class Split:
    """The parts of a history; no target of one part is a target of another."""

    train: Windows
    validation: Windows
    test: Windows


Borders = tuple[np.datetime64, np.datetime64]
"""The first date of the validation part, the first date of the test part."""

BorderRule = Callable[[Windows], Borders]


def sliding_windows(
    prices: pd.DataFrame,
    lookback: int,
    horizon: int,
    measures: Float[np.ndarray, "sessions measures"] | None = None,
    stock: object = "",
) -> Windows:
    """Every window of a `date, close, …` table, stride 1; none when the table is shorter than one window.

    Args:
        prices: one stock's history.
        lookback: closes that a forecast sees.
        horizon: closes that it forecasts.
        measures: volatilities as known at each session's end; without them, those of closes alone.
        stock: the ticker.
    """
    size = lookback + horizon
    values = prices["close"].to_numpy(np.float64)
    days = prices["date"].to_numpy("datetime64[ns]")
    known = volatilities({"close": values}, "window") if measures is None else measures
    if len(values) < size:
        rows, row_days = np.empty((0, size)), np.empty((0, size), "datetime64[ns]")
    else:
        rows = np.lib.stride_tricks.sliding_window_view(values, size)
        row_days = np.lib.stride_tricks.sliding_window_view(days, size)
    n = len(rows)
    return Windows(
        inputs=rows[:, :lookback],
        volatilities=known[lookback - 1 : lookback - 1 + n].astype(np.float32),
        targets=rows[:, lookback:],
        cutoffs=row_days[:, lookback - 1],
        dates=row_days[:, lookback:],
        stocks=np.full(n, str(stock)),
    )


def joined(windows: Sequence[Windows]) -> Windows:
    """The windows of many stocks."""
    return Windows(*(np.concatenate([getattr(part, f.name) for part in windows]) for f in fields(Windows)))


def split_at(windows: Windows, borders: Borders) -> Split:
    """A window belongs to the part that holds all its targets; one whose targets straddle a border is dropped."""
    validation, test = borders
    first, last = windows.dates[:, 0], windows.dates[:, -1]
    return Split(
        train=windows.where(last < validation),
        validation=windows.where((first >= validation) & (last < test)),
        test=windows.where(first >= test),
    )


def fraction_borders(windows: Windows, train: float, validation: float) -> Borders:
    """Borders that leave the first `train` of the windows to training, the next `validation` to validation."""
    begins = np.sort(windows.dates[:, 0])
    n = len(begins)
    return begins[round(n * train)], begins[round(n * (train + validation))]


def reference_borders(windows: Windows, train: float, validation: float) -> Borders:
    """The published comparison's test part; what lies before it is train and validation in the given proportion."""
    return borders_before(windows, np.datetime64(REFERENCE_BORDER), train / (train + validation))


def borders_before(windows: Windows, test: np.datetime64, train: float) -> Borders:
    """A test part that begins on a date; the fraction `train` of what lies before it is for training."""
    begins = np.sort(windows.dates[windows.dates[:, -1] < test, 0])
    return begins[round(len(begins) * train)], test


RULES = {"date": fraction_borders, "reference": reference_borders}


def border_rule(split: str, train: float, validation: float) -> BorderRule:
    """The rule of this name, with the fractions of the windows that train and validate."""
    return partial(RULES[split], train=train, validation=validation)


def split_windows(windows: Windows, rule: BorderRule) -> Split | None:
    """The windows in parts by dates that hold for all stocks; None where a part is empty."""
    try:
        split = split_at(windows, rule(windows))
    except IndexError:  # a border would lie beyond the last window
        return None
    parts = (split.train, split.validation, split.test)
    return split if all(len(part) for part in parts) else None


def too_few(symbol: object, prices: pd.DataFrame, lookback: int, horizon: int, rule: BorderRule) -> TooFewSessions:
    """Why this history has no split, and how many sessions it needs."""
    first, last = (day(prices["date"].iloc[i]) for i in (0, -1))
    needed = sessions_needed(lookback, horizon, rule)
    if len(prices) >= needed:
        why = f"none of the three parts may be empty, and the test part begins on {day(REFERENCE_BORDER)}"
    else:
        why = f"{lookback} in, {horizon} out, and targets of the three parts that never overlap"
    return TooFewSessions(symbol, first, last, len(prices), needed, why)


def sessions_needed(lookback: int, horizon: int, rule: BorderRule) -> int:
    """A length at which each of the three parts holds a window, while one session less leaves a part empty.

    A few shorter lengths may do too: where the fractions round to whole windows, the parts do not grow in step.
    """

    def enough(n: int) -> bool:
        days = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(horizon - 1), periods=n)
        table = pd.DataFrame({"date": days, "close": 1.0})
        return split_windows(sliding_windows(table, lookback, horizon), rule) is not None

    size = lookback + horizon
    while not enough(size):
        size *= 2
    return bisect_left(range(size), True, lo=size // 2, key=enough)


def day(value: object) -> date:
    """The date of a numpy or pandas time."""
    return pd.Timestamp(str(value)).date()
