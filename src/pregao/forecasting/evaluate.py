"""The evaluation of a model, with its baselines, on windows that it was not trained on."""

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import pandas as pd

from pregao.data.panel import columns
from pregao.data.windows import Windows, sliding_windows
from pregao.errors import TooFewSessions
from pregao.evaluation.report import Evaluation, baseline_forecasts
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.prices.downloader import Prices
from pregao.prices.symbols import Symbol
from pregao.tracking.registry import Served


def evaluate_model(
    model: TrainedModel,
    symbol: Symbol,
    windows: Windows,
    prices: Mapping[str, pd.DataFrame],
    since: date,
    until: np.datetime64,
) -> Evaluation:
    """Evaluate the model, with the online width that it had at each origin, and its baselines.

    Args:
        model: trained on none of the windows' targets.
        symbol: the stock, or SHARED.
        windows: the test set.
        prices: the histories of their stocks.
        since: the first day of the outcomes that move the online width.
        until: the first day that baselines may not be fitted on.
    """
    parts = []
    for stock, place in windows.by_stock():
        rolling = rolling_forecasts(model, prices[stock], since, stock)
        parts.append(rolling.at(windows.cutoffs[place]).quantiles)
    baselines = baseline_forecasts(windows, prices, until)
    return Evaluation(symbol.ticker, symbol.currency, windows, {"model": np.concatenate(parts), **baselines})


def served_on_latest(served: Served, prices: Prices) -> Evaluation:
    """Evaluate a served model on the closes after the last day of its training and calibration.

    Raises:
        TooFewSessions: they do not fill one window.
    """
    model, card, ticker = served.model, served.model.card, prices.symbol.ticker
    table, horizon = prices.table, served.model.card.horizon
    windows = sliding_windows(table, card.lookback, horizon, model.volatilities(columns(table)), ticker)
    first = date.fromisoformat(card.validation_end) + timedelta(days=1)
    windows = windows.where(windows.dates[:, 0] >= np.datetime64(first))
    if not len(windows):
        came = int((table["date"] >= pd.Timestamp(first)).sum())
        why = f"to judge a model that has seen closes until {card.validation_end}"
        raise TooFewSessions(ticker, first, prices.as_of, came, horizon, why)
    since = date.fromisoformat(card.validation_start)
    return evaluate_model(model, prices.symbol, windows, {ticker: table}, since, np.datetime64(first))
