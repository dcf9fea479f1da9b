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


def test_the_first_model_is_served():
    assert decide("auto", mape=9.0, champion=None, naive=2.5, finite=True).promoted


@pytest.mark.parametrize(
    ("mape", "champion", "naive", "promoted"),
    [
        (2.5, 2.6, 2.5, True),  # better than the champion
        (2.54, 2.5, 2.4, True),  # worse than both, within 2 %
        (2.56, 2.5, 2.5, False),  # clearly worse than both
        (2.56, 2.5, 2.55, True),  # clearly worse than the champion only
        (2.56, 2.55, 2.5, True),  # clearly worse than last close only
    ],
)
def test_a_model_that_is_clearly_worse_than_both_is_not_served(mape, champion, naive, promoted):
    verdict = decide("auto", mape, champion, naive, finite=True)
    assert verdict.promoted is promoted
    assert f"{champion:.3f}" in verdict.reason


def test_a_champion_that_cannot_be_compared_leaves_last_close_as_the_bound():
    assert decide("auto", 2.5, float("nan"), 2.5, finite=True).promoted
    refused = decide("auto", 2.6, float("nan"), 2.5, finite=True)
    assert not refused.promoted
    assert "cannot be compared" in refused.reason


def test_promote_always_and_never_decide_by_themselves():
    assert decide("always", 99.0, 2.5, 2.5, finite=True).promoted
    assert not decide("never", 1.0, 2.5, 2.5, finite=True).promoted


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_a_forecast_or_error_that_is_not_finite_is_never_served(mode):
    assert not decide(mode, 2.0, None, 2.5, finite=False).promoted
    assert not decide(mode, float("nan"), None, 2.5, finite=True).promoted


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
        rolling = rolling_forecasts(model, prices[stock], pd.Timestamp("2024-10-01").date())
        rows.append(rolling.at(windows.cutoffs[place]).quantiles)
    expected = mape(Forecasts(windows.targets, np.concatenate(rows)))
    assert champion_mape(Symbol.parse("SHARED"), prices, windows) == expected


def test_without_a_champion_nothing_is_compared(home, panel):
    assert champion_mape(Symbol.parse("SHARED"), *panel) is None


def test_a_champion_is_not_compared_if_one_history_is_too_short(shared, panel):
    prices, windows = panel
    short = {stock: table.tail(19) if stock == "ITUB4" else table for stock, table in prices.items()}
    assert math.isnan(champion_mape(Symbol.parse("SHARED"), short, windows))
