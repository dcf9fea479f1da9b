"""The market factor of a panel: the mean daily variance over its stocks, by date; measures, no prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pregao.data.variance import SPANS, columns, daily_variance, rolling_mean

if TYPE_CHECKING:  # an inference process saves pandas' 60 MB
    import pandas as pd

OLDEST = 22
"""Sessions for which the market's last measures are used after its end; later they are unknown."""

LEAST_STOCKS = 2
"""A panel of one stock has no market factor."""


@dataclass(frozen=True)
class Market:
    """The mean variance over the stocks of a panel.

    Attributes:
        dates: sessions, oldest first, datetime64[ns].
        variances: the mean over the stocks that traded, per session.
        stocks: the tickers of the panel; empty if they are unknown.
    """

    dates: np.ndarray
    variances: Float[np.ndarray, " sessions"]
    stocks: tuple[str, ...] = ()

    @classmethod
    def of(cls, histories: Mapping[str, "pd.DataFrame"]) -> "Market | None":
        """The market of these histories (`date open high low close`); None without two stocks with ranges."""
        import pandas as pd

        found = {stock: pd.Series(daily_variance(columns(table)), table["date"]) for stock, table in histories.items()}
        variances = pd.DataFrame(found).dropna(axis=1, how="all")
        if variances.shape[1] < LEAST_STOCKS:
            return None
        mean = variances.mean(axis=1).dropna().sort_index()
        return cls(mean.index.to_numpy("datetime64[ns]"), mean.to_numpy(), tuple(map(str, variances)))

    def extended(self, dates: np.ndarray, variances: Float[np.ndarray, " later"]) -> "Market":
        """The market with later sessions."""
        both = np.concatenate([self.dates, dates]), np.concatenate([self.variances, variances])
        return Market(*both, self.stocks)

    def measures(self, dates: np.ndarray) -> Float[np.ndarray, "n spans"]:
        """The market's volatility over each of `SPANS`, as known on these dates; NaN before it and long after it."""
        known = np.sqrt([rolling_mean(self.variances, span) for span in SPANS]).T
        at = np.searchsorted(self.dates, np.asarray(dates, "datetime64[ns]"), side="right") - 1
        after = np.arange(len(at)) - np.searchsorted(dates, self.dates[-1], side="right") + 1
        return np.where(((at >= 0) & (after <= OLDEST))[:, None], known[at], np.nan)

    def save(self, path: Path) -> None:
        """Write `date,variance` as CSV."""
        days = np.datetime_as_string(self.dates, unit="D")
        rows = [f"{day},{variance:.6g}\n" for day, variance in zip(days, self.variances, strict=True)]
        path.write_text("".join(["date,variance\n", *rows]), encoding="utf-8")

    @classmethod
    def parse(cls, text: str, stocks: Sequence[str] = ()) -> "Market":
        """Read what `save` wrote, of these stocks.

        Raises:
            ValueError: the text is not such a table.
        """
        rows = [row.split(",") for row in text.splitlines()[1:]]
        dates, variances = zip(*rows, strict=True)
        return cls(np.array(dates, "datetime64[ns]"), np.array(variances, np.float64), tuple(stocks))
