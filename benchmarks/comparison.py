"""What the tables of forecasts share: losses by date and stock, percent saved with intervals, true first days."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pregao.evaluation.metrics import pinball_by_window
from pregao.evaluation.report import Evaluation
from pregao.evaluation.significance import Saved, loss_saved


def losses(evaluations: Sequence[Evaluation], forecaster: str) -> pd.DataFrame:
    """Pinball loss per cutoff and stock; NaN if a stock lacks a cutoff, or the forecaster."""
    columns = {
        e.stock: pd.Series(pinball_by_window(e.windows.targets, e.forecasts[forecaster]), index=e.windows.cutoffs)
        for e in evaluations
        if forecaster in e.forecasts
    }
    return pd.DataFrame(columns, columns=[e.stock for e in evaluations]).sort_index()


def saved(own: pd.DataFrame, other: pd.DataFrame) -> Saved:
    """Percent saved of the other's loss, over the stocks and dates that both have."""
    common = own.notna() & other.notna()
    return loss_saved(own.where(common).to_numpy(np.float64), other.where(common).to_numpy(np.float64))


def later_starts(prices: Path, stocks: Sequence[str], start: str) -> str:
    """In words, the stocks whose prices begin more than a month after a day."""
    firsts = {stock: pd.read_csv(prices / f"{stock}.csv", usecols=["date"], nrows=1)["date"].item() for stock in stocks}
    latest = str((pd.Timestamp(start) + pd.Timedelta(days=31)).date())
    later = ", ".join(f"{stock} {first}" for stock, first in firsts.items() if first > latest)
    return f" (these begin later: {later})" if later else ""
