"""Compare two sources: the dates on which they differ, and the dates that only one of them has."""

from dataclasses import dataclass
from datetime import date

import pandas as pd


@dataclass(frozen=True)
class Agreement:
    """How two sources' closes compare.

    Attributes:
        names: the two sources.
        tolerance: percent up to which two closes count as the same.
        both: `date first second percent`, one row per common date; percent of the second's close.
        only: dates that only the first, and only the second has, between the first and last common date.
    """

    names: tuple[str, str]
    tolerance: float
    both: pd.DataFrame
    only: tuple[tuple[date, ...], tuple[date, ...]]

    @property
    def differing(self) -> pd.DataFrame:
        """The rows of `both` beyond the tolerance."""
        return self.both[self.both["percent"].abs() > self.tolerance]

    @property
    def stretches(self) -> pd.DataFrame:
        """`from until dates ratio`, one row per run of differing dates whose ratio of closes is constant.

        Constant is: within the tolerance of the previous date. A split that only one source has applied is one long
        run; a single wrong price is a run of one date.
        """
        different = self.differing
        if different.empty:
            return pd.DataFrame(columns=["from", "until", "dates", "ratio"])
        ratio = different["first"] / different["second"]
        places = pd.Series(different.index, index=different.index)
        apart = (places.diff() != 1) | ((ratio / ratio.shift() - 1).abs() > self.tolerance / 100)
        grouped = different.assign(ratio=ratio).groupby(apart.cumsum().to_numpy())
        return grouped.agg(
            **{"from": ("date", "first"), "until": ("date", "last")}, dates=("date", "size"), ratio=("ratio", "median")
        )


def compare(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], tolerance: float) -> Agreement:
    """Compare two `date, close` tables, each ascending and without repeated dates."""
    joined = first[["date", "close"]].merge(second[["date", "close"]], on="date", how="outer", suffixes=("_1", "_2"))
    joined = joined.rename(columns={"close_1": "first", "close_2": "second"}).sort_values("date")
    both = joined.dropna().reset_index(drop=True)
    both = both.assign(percent=100 * (both["first"] / both["second"] - 1))
    joined = joined[joined["date"].between(both["date"].min(), both["date"].max())]
    only_first, only_second = (tuple(joined.loc[joined[name].isna(), "date"].dt.date) for name in ("second", "first"))
    return Agreement(names, tolerance, both, (only_first, only_second))
