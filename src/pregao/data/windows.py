"""Prices → windows: sliding [N, lookback] inputs and [N, horizon] targets, split by date without look-ahead."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.data.variance import columns, future_variance, measured_variance
from pregao.data.volatility import volatilities
from pregao.errors import TooFewSessions

REFERENCE_BORDER = pd.Timestamp("2023-11-24")
"""The first test date of the published comparison, for every stock."""

REFERENCE_END = "2025-07-27"
"""The last day of the published comparison."""

BORDER_LOOKBACK = 20
"""Rules of borders count the windows of this lookback, the default: so borders are equal for every lookback."""


@dataclass(frozen=True)
class Windows:
    """Sliding windows of one or more stocks, each stock's together and oldest first.

    Attributes:
        inputs: the closes of the window, in the stock's currency.
        volatilities: daily volatilities as known at the cutoff, float32; NaN where unknown.
        targets: the closes that follow.
        variances: mean daily variance of the sessions up to each target, float32; NaN where unknown.
        cutoffs: `[N]` the date of each window's last input, as datetime64[ns].
        dates: `[N, horizon]` the dates of the targets.
        stocks: `[N]` the tickers.
    """

    inputs: Float[np.ndarray, "n lookback"]
    volatilities: Float[np.ndarray, "n measures"]
    targets: Float[np.ndarray, "n horizon"]
    variances: Float[np.ndarray, "n horizon"]
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
        """Each ticker with the slice of its windows."""
        starts = [0, *(np.flatnonzero(self.stocks[1:] != self.stocks[:-1]) + 1), len(self)] if len(self) else [0]
        for start, end in pairwise(starts):
            yield str(self.stocks[start]), slice(int(start), int(end))


@dataclass(frozen=True)
class Split:
    """The windows by part; no target date is in two parts."""

    train: Windows
    validation: Windows
    test: Windows


Borders = tuple[np.datetime64, np.datetime64]
"""The first date of the validation part, the first date of the test part."""


class OneBorder(NamedTuple):
    """Borders of `split=published`: the validation part is the test part, so the kept epoch has seen it: a leak."""

    validation: np.datetime64
    test: np.datetime64


BorderRule = Callable[[Windows], Borders]


def sliding_windows(
    prices: pd.DataFrame,
    lookback: int,
    horizon: int,
    measures: Float[np.ndarray, "sessions measures"] | None = None,
    stock: object = "",
) -> Windows:
    """Every window of a `date, close, …` table, stride 1; none if the table is shorter than one window.

    Args:
        prices: one stock's history.
        lookback: closes per window.
        horizon: closes to forecast.
        measures: volatilities at each session's end; default: the long-run volatility of the closes.
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
    ahead = future_variance(measured_variance(columns(prices)), horizon).astype(np.float32)
    return Windows(
        inputs=rows[:, :lookback],
        volatilities=known[lookback - 1 : lookback - 1 + n].astype(np.float32),
        targets=rows[:, lookback:],
        variances=ahead[lookback - 1 : lookback - 1 + n],
        cutoffs=row_days[:, lookback - 1],
        dates=row_days[:, lookback:],
        stocks=np.full(n, str(stock)),
    )


def joined(windows: Sequence[Windows]) -> Windows:
    """Concatenate the windows of many stocks."""
    return Windows(*(np.concatenate([getattr(part, f.name) for part in windows]) for f in fields(Windows)))


def split_at(windows: Windows, borders: Borders) -> Split:
    """A window belongs to the part that contains all its targets; windows across a border are dropped."""
    validation, test = borders
    first, last = windows.dates[:, 0], windows.dates[:, -1]
    tested = first >= test
    return Split(
        train=windows.where(last < validation),
        validation=windows.where(tested if isinstance(borders, OneBorder) else (first >= validation) & (last < test)),
        test=windows.where(tested),
    )


def fraction_borders(windows: Windows, train: float, validation: float) -> Borders:
    """The first fraction `train` of the windows is for training, the next `validation` for validation."""
    starts = np.sort(windows.dates[:, 0])
    n = len(starts)
    return starts[round(n * train)], starts[round(n * (train + validation))]


def reference_borders(windows: Windows, train: float, validation: float) -> Borders:
    """The published comparison's test part; the time before it is split in the given proportion."""
    return borders_before(windows, np.datetime64(REFERENCE_BORDER), train / (train + validation))


def published_borders(windows: Windows, train: float, validation: float) -> Borders:
    """The published recipe's only border: all windows before it are for training, and the fractions are unused."""
    return OneBorder(np.datetime64(REFERENCE_BORDER), np.datetime64(REFERENCE_BORDER))


def borders_before(windows: Windows, test: np.datetime64, train: float) -> Borders:
    """A test part that starts on a date; the fraction `train` of the windows before it is for training."""
    starts = np.sort(windows.dates[windows.dates[:, -1] < test, 0])
    return starts[round(len(starts) * train)], test


RULES = {"date": fraction_borders, "reference": reference_borders, "published": published_borders}


def border_rule(split: str, train: float, validation: float) -> BorderRule:
    """The rule of this name, with the fractions for training and validation."""
    return partial(RULES[split], train=train, validation=validation)


def find_borders(prices: Iterable[pd.DataFrame], horizon: int, rule: BorderRule) -> Borders:
    """The borders of these histories, for every lookback: trainings with different ones have the same test dates.

    Raises:
        IndexError: a border is after the last window.
    """
    return rule(joined([sliding_windows(table, BORDER_LOOKBACK, horizon) for table in prices]))


def split_windows(prices: pd.DataFrame, lookback: int, horizon: int, rule: BorderRule) -> Split | None:
    """The windows of one history, split; None if a part is empty."""
    try:
        split = split_at(sliding_windows(prices, lookback, horizon), find_borders([prices], horizon, rule))
    except IndexError:  # a border after the last window
        return None
    parts = (split.train, split.validation, split.test)
    return split if all(len(part) for part in parts) else None


def too_few(symbol: object, prices: pd.DataFrame, lookback: int, horizon: int, rule: BorderRule) -> TooFewSessions:
    """The error for a history without a split: the reason, and the sessions it needs."""
    first, last = (day(prices["date"].iloc[i]) for i in (0, -1))
    needed = sessions_needed(lookback, horizon, rule)
    if len(prices) >= needed:
        why = f"none of the three parts may be empty, and the test part starts on {day(REFERENCE_BORDER)}"
    else:
        why = f"{lookback} in, {horizon} out, and targets of the three parts that do not overlap"
    return TooFewSessions(symbol, first, last, len(prices), needed, why)


def sessions_needed(lookback: int, horizon: int, rule: BorderRule) -> int:
    """A length at which no part is empty, while with one session less a part is.

    A few shorter lengths can work too, since fractions are rounded to whole windows.
    """

    def enough(n: int) -> bool:
        days = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(horizon - 1), periods=n)
        table = pd.DataFrame({"date": days, "close": 1.0})
        return split_windows(table, lookback, horizon, rule) is not None

    size = lookback + horizon
    while not enough(size):
        size *= 2
    return bisect_left(range(size), True, lo=size // 2, key=enough)


def day(value: object) -> date:
    """The date of a numpy or pandas time."""
    return pd.Timestamp(str(value)).date()
