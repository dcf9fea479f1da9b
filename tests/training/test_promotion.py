import math

import numpy as np
import pandas as pd
import pytest

from pregao.data.windows import joined, sliding_windows
from pregao.evaluation.metrics import Forecasts, mape
from pregao.forecasting.historical import rolling_forecasts
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from pregao.training.promotion import champion_mape, decide
from tests.conftest import random_walk

NAN = math.nan


@pytest.mark.parametrize(
    ("mode", "mape", "champion", "naive", "promoted"),
    [
        ("auto", 9.0, None, 2.5, True),  # the first model
        ("auto", 2.5, 2.6, 2.5, True),  # better than the champion
        ("auto", 2.54, 2.5, 2.4, True),  # worse than both, within 2 %
        ("auto", 2.56, 2.5, 2.5, False),  # clearly worse than both
        ("auto", 2.56, 2.5, 2.55, True),  # clearly worse than the champion only
        ("auto", 2.56, 2.55, 2.5, True),  # clearly worse than last close only
        ("auto", 2.5, NAN, 2.5, True),  # the champion cannot be compared: last close is the bound
        ("auto", 2.6, NAN, 2.5, False),
        ("always", 99.0, 2.5, 2.5, True),
        ("never", 1.0, 2.5, 2.5, False),
        *((mode, NAN, None, 2.5, False) for mode in ("auto", "always", "never")),
    ],
)
def test_a_model_that_is_clearly_worse_than_champion_and_last_close_is_not_served(
    mode, mape, champion, naive, promoted
):
    assert decide(mode, mape, champion, naive, finite=True).promoted is promoted
    assert not decide(mode, mape, champion, naive, finite=False).promoted


@pytest.fixture
def panel():
    """Prices of two stocks, one with a short history, and the windows of their last days."""
    prices = {"PETR4": random_walk(200, seed=1), "ITUB4": random_walk(60, seed=2)}
    windows = joined([sliding_windows(table, 20, 10, stock=stock) for stock, table in prices.items()])
    return prices, windows.where(windows.dates[:, 0] >= np.datetime64("2024-10-01"))


def test_the_champion_is_evaluated_on_every_stock_of_a_panel(shared, panel):
    prices, windows = panel
    model = registry.champion(Symbol.parse("SHARED")).model
    rows = []
    for stock, place in windows.by_stock():
        rolling = rolling_forecasts(model, prices[stock], pd.Timestamp("2024-10-01").date(), stock)
        rows.append(rolling.at(windows.cutoffs[place]).quantiles)
    expected = mape(Forecasts(windows.targets, np.concatenate(rows)))
    assert champion_mape(Symbol.parse("SHARED"), prices, windows) == expected


def test_without_a_champion_nothing_is_compared(home, panel):
    assert champion_mape(Symbol.parse("SHARED"), *panel) is None


def test_a_champion_is_not_compared_if_one_history_is_too_short(shared, panel):
    prices, windows = panel
    short = {stock: table.tail(19) if stock == "ITUB4" else table for stock, table in prices.items()}
    assert math.isnan(champion_mape(Symbol.parse("SHARED"), short, windows))
