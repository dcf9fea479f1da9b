"""The evaluation of a model, with its baselines, on windows that it was not trained on."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from pregao.data.variance import columns
from pregao.data.windows import Windows, sliding_windows
from pregao.errors import TooFewSessions
from pregao.evaluation.report import REPORTED, Evaluation, baseline_forecasts
from pregao.forecasting.historical import Rolling, forecast_history
from pregao.prices.downloader import Prices
from pregao.prices.symbols import Symbol
from pregao.tracking.registry import Served


def evaluate_model(
    symbol: Symbol,
    windows: Windows,
    rolling: Mapping[str, Rolling],
    prices: Mapping[str, pd.DataFrame],
    until: np.datetime64,
    baselines: Sequence[str] = REPORTED,
) -> Evaluation:
    """Evaluate a model and its baselines.

    Args:
        symbol: the stock, or SHARED.
        windows: the test set.
        rolling: the model's forecasts by stock; the model was not trained on the windows' targets.
        prices: the history of each stock.
        until: baselines are fitted on the days before this one.
        baselines: their names.
    """
    parts = [rolling[stock].at(windows.cutoffs[place]).quantiles for stock, place in windows.by_stock()]
    others = baseline_forecasts(windows, prices, until, baselines)
    currencies = {
        Symbol.parse(stock).currency for stock in np.unique(windows.stocks).tolist()
    }  # SHARED has none itself
    return Evaluation(
        symbol.ticker, " and ".join(sorted(currencies)), windows, {"model": np.concatenate(parts), **others}
    )


def served_on_latest(served: Served, prices: Prices) -> Evaluation:
    """Evaluate a served model on the closes after the last day of its training and calibration.

    Raises:
        TooFewSessions: these closes are fewer than one horizon.
    """
    model, card, ticker = served.model, served.model.card, prices.symbol.ticker
    table, horizon = prices.table, served.model.card.horizon
    windows = sliding_windows(table, card.lookback, horizon, model.volatilities(columns(table)), ticker)
    first = date.fromisoformat(card.validation_end) + timedelta(days=1)
    windows = windows.where(windows.dates[:, 0] >= np.datetime64(first))
    if not len(windows):
        found = int((table["date"] >= pd.Timestamp(first)).sum())
        why = f"to evaluate a model that was trained on closes up to {card.validation_end}"
        raise TooFewSessions(ticker, first, prices.as_of, found, horizon, why)
    rolling = forecast_history(model, {ticker: table})
    return evaluate_model(prices.symbol, windows, rolling, {ticker: table}, np.datetime64(first))
