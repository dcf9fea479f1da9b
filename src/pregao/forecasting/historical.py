"""A model's forecasts at every origin of a stock's history, each with the online width known at its origin."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from jaxtyping import Float

from pregao.data.variance import columns
from pregao.data.windows import Windows, sliding_windows
from pregao.models.calibration import band_scores, online_widths
from pregao.models.forecaster import Forecaster, Window
from pregao.quantiles import widened


@dataclass(frozen=True)
class Rolling:
    """Forecasts at consecutive origins.

    Attributes:
        windows: inputs and actual closes of each forecast; future sessions have the target NaN and the date NaT.
        widths: factors on the network's bands, from outcomes known at each origin.
        quantiles: of the closes, in the stock's currency, with these widths.
    """

    windows: Windows
    widths: Float[np.ndarray, " n"]
    quantiles: Float[np.ndarray, "n horizon 7"]

    @property
    def last(self) -> Window:
        """The window of the last origin."""
        windows, width = self.windows, float(self.widths[-1])
        return Window(windows.inputs[-1].tolist(), windows.volatilities[-1].tolist(), width, str(windows.stocks[-1]))

    def at(self, cutoffs: np.ndarray) -> "Rolling":
        """The forecasts of these origins."""
        mask = np.isin(self.windows.cutoffs, cutoffs)
        return replace(self, windows=self.windows.where(mask), widths=self.widths[mask], quantiles=self.quantiles[mask])


def rolling_forecasts(model: Forecaster, prices: pd.DataFrame, since: date | str, stock: object = "") -> Rolling:
    """The forecasts whose first session is `since` or later, and always the one after the last session.

    Args:
        model: the same one at every origin.
        prices: `date close …`, at least one lookback long; earlier sessions serve windows and volatilities.
        since: the first session that is forecast, usually the model's `validation_start`.
        stock: the ticker.
    """
    lookback, horizon = model.card.lookback, model.card.horizon
    # Future sessions without closes give the last origins windows too.
    future = pd.DataFrame({"date": [pd.NaT] * horizon, "close": np.nan}).astype({"date": prices["date"].dtype})
    known = model.volatilities(columns(prices))
    measures = np.concatenate([known, np.full((horizon, known.shape[1]), np.nan)])
    extended = pd.concat([prices[["date", "close"]], future], ignore_index=True)
    windows = sliding_windows(extended, lookback, horizon, measures, stock)
    last = windows.cutoffs[-1]
    recent = (windows.dates[:, 0] >= np.datetime64(pd.Timestamp(since))) | (windows.cutoffs == last)
    windows = windows.where(recent)
    raw = model.quantiles(windows.inputs, windows.volatilities, windows.stocks)
    follows = model.follows_outcomes
    widths = online_widths(band_scores(windows.targets, raw)) if follows else np.ones(len(raw))
    return Rolling(windows, widths, widened(raw, widths))


def latest_window(model: Forecaster, prices: pd.DataFrame, stock: object = "") -> Window:
    """The window of the forecast after the last session, as `rolling_forecasts` has it.

    Args:
        model: the served one.
        prices: `date close …`, at least one lookback long.
        stock: the ticker.
    """
    if model.follows_outcomes:
        return rolling_forecasts(model, prices, model.card.validation_start, stock).last
    closes = prices["close"].to_numpy(np.float64)[-model.card.lookback :]
    measures = model.volatilities(columns(prices))[-1].astype(np.float32)
    return Window(closes.tolist(), measures.tolist(), 1.0, str(stock))


def forecast_history(model: Forecaster, prices: Mapping[str, pd.DataFrame]) -> dict[str, Rolling]:
    """The model's forecasts from the start of its validation part, by stock."""
    since = model.card.validation_start
    return {stock: rolling_forecasts(model, table, since, stock) for stock, table in prices.items()}
