"""Closes → windows: sliding [N, lookback] inputs and [N, horizon] targets, split by date without look-ahead."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.errors import TooFewSessions

REFERENCE_BORDER = pd.Timestamp("2023-11-24")
"""The first date that judges in the published comparison, for every stock."""

REFERENCE_END = "2025-07-27"
"""The last day of the published comparison."""


@dataclass(frozen=True)
class Windows:
    """Sliding windows of one stock, oldest first.

    Attributes:
        inputs: closes that a forecast sees, in the stock's currency.
        targets: the closes that follow.
        cutoffs: `[N]` the date of each window's last input, as datetime64[ns].
        dates: `[N, horizon]` the dates of the targets.
    """

    inputs: Float[np.ndarray, "n lookback"]
    targets: Float[np.ndarray, "n horizon"]
    cutoffs: np.ndarray
    dates: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return int(self.targets.shape[1])

    def where(self, mask: np.ndarray) -> "Windows":
        """The windows that a boolean `[N]` mask keeps."""
        return Windows(self.inputs[mask], self.targets[mask], self.cutoffs[mask], self.dates[mask])


@dataclass(frozen=True)
class Split:
    """The parts of a history; no target of one part is a target of another."""

    train: Windows
    validation: Windows
    test: Windows


Borders = tuple[np.datetime64, np.datetime64]
"""The first date of the validation part, the first date of the test part."""

BorderRule = Callable[[Windows], Borders]


def sliding_windows(closes: pd.DataFrame, lookback: int, horizon: int) -> Windows:
    """Every window of a `date, close` table, stride 1; none when the table is shorter than one window."""
    size = lookback + horizon
    values = closes["close"].to_numpy(np.float64)
    days = closes["date"].to_numpy("datetime64[ns]")
    if len(values) < size:
        values, days = np.empty(0), np.empty(0, "datetime64[ns]")
        rows, row_days = values.reshape(0, size), days.reshape(0, size)
    else:
        rows = np.lib.stride_tricks.sliding_window_view(values, size)
        row_days = np.lib.stride_tricks.sliding_window_view(days, size)
    return Windows(rows[:, :lookback], rows[:, lookback:], row_days[:, lookback - 1], row_days[:, lookback:])


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
    n = len(windows)
    return windows.dates[round(n * train), 0], windows.dates[round(n * (train + validation)), 0]


def reference_borders(windows: Windows, train: float, validation: float) -> Borders:
    """The published comparison's test part; what lies before it is train and validation in the given proportion."""
    test = np.datetime64(REFERENCE_BORDER)
    before = windows.where(windows.dates[:, -1] < test)
    return before.dates[round(len(before) * train / (train + validation)), 0], test


def split_windows(symbol: object, closes: pd.DataFrame, lookback: int, horizon: int, rule: BorderRule) -> Split:
    """Windows of a `date, close` table, in parts.

    Raises:
        TooFewSessions: a part would be empty; the message says how many sessions the split needs.
    """
    split = _try_split(closes, lookback, horizon, rule)
    if split is not None:
        return split
    first, last = (day(closes["date"].iloc[i]) for i in (0, -1))
    needed = sessions_needed(lookback, horizon, rule)
    if len(closes) >= needed:
        why = f"none of the three parts may be empty, and the test part begins on {day(REFERENCE_BORDER)}"
    else:
        why = f"{lookback} in, {horizon} out, and targets of the three parts that never overlap"
    raise TooFewSessions(symbol, first, last, len(closes), needed, why)


def sessions_needed(lookback: int, horizon: int, rule: BorderRule) -> int:
    """A length at which each of the three parts holds a window, while one session less leaves a part empty.

    A few shorter lengths may do too: where the fractions round to whole windows, the parts do not grow in step.
    """

    def enough(n: int) -> bool:
        days = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(horizon - 1), periods=n)
        return _try_split(pd.DataFrame({"date": days, "close": 1.0}), lookback, horizon, rule) is not None

    size = lookback + horizon
    while not enough(size):
        size *= 2
    return bisect_left(range(size), True, lo=size // 2, key=enough)


def _try_split(closes: pd.DataFrame, lookback: int, horizon: int, rule: BorderRule) -> Split | None:
    windows = sliding_windows(closes, lookback, horizon)
    try:
        split = split_at(windows, rule(windows))
    except IndexError:  # a border would lie beyond the last window
        return None
    parts = (split.train, split.validation, split.test)
    return split if all(len(part) for part in parts) else None


def day(value: object) -> date:
    """The date of a numpy or pandas time."""
    return pd.Timestamp(str(value)).date()
