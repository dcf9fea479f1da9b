import numpy as np
import pandas as pd
import pytest

from pregao.backtesting.origins import RollingOrigins
from tests.conftest import random_walk

STOCKS = ("VALE3", "PETR4")


@pytest.fixture(scope="module")
def two():
    return {stock: random_walk(seed=seed) for seed, stock in enumerate(STOCKS)}


def origins(tables, first="2024-07-01", months=3, years=None, lookback=20, horizon=10):
    return RollingOrigins(tables, lookback, horizon, pd.Timestamp(first), months, years)


@pytest.mark.parametrize("years", [None, 0.5, 1])
def test_a_history_ends_before_the_refit_and_starts_years_before_it_or_with_the_prices(two, years):
    rolling = origins(two, years=years)
    assert len(rolling.periods) == 2
    for period in rolling.periods:
        start = pd.Timestamp.min if years is None else period.refit - pd.Timedelta(days=365.25 * years)
        for stock, table in rolling.history(period).items():
            days = two[stock]["date"]
            assert table["date"].tolist() == days[(days < period.refit) & (days >= start)].tolist()


def test_inputs_hold_no_close_after_the_last_cutoff(two):
    rolling = origins(two)
    for period in rolling.periods:
        seen, cutoffs = rolling.inputs(period)
        for stock in STOCKS:
            assert seen[stock]["date"].iloc[-1] == cutoffs[stock][-1]
            assert period.refit <= cutoffs[stock][0]
            assert cutoffs[stock][-1] < period.end


def test_truths_are_the_closes_that_followed_and_the_last_cutoffs_without_them_are_left_out(two):
    rolling = origins(two)
    found = []
    for period in rolling.periods:
        _, cutoffs = rolling.inputs(period)
        windows = rolling.truths(period, "VALE3")
        assert np.array_equal(windows.cutoffs, cutoffs["VALE3"])
        for cutoff, dates, targets in zip(windows.cutoffs, windows.dates, windows.targets, strict=True):
            after = two["VALE3"][two["VALE3"]["date"] > cutoff].head(10)
            assert np.array_equal(after["close"], targets)
            assert np.array_equal(after["date"], dates)
            found.append(cutoff)
    days = two["VALE3"]["date"]
    assert found == days[days >= "2024-07-01"].iloc[:-10].tolist()


@pytest.mark.parametrize(("months", "refits"), [(1, 6), (2, 3), (3, 2), (6, 1), (1200, 1)])
def test_models_are_refitted_every_so_many_months(two, months, refits):
    rolling = origins(two, months=months)
    assert len(rolling.periods) == refits
    assert [p.refit for p in rolling.periods] == [
        pd.Timestamp("2024-07-01") + pd.DateOffset(months=n * months) for n in range(refits)
    ]
    cutoffs = [cutoff for period in rolling.periods for cutoff in rolling.inputs(period)[1]["VALE3"]]
    assert cutoffs == sorted(set(cutoffs))


def test_refits_from_the_31st_are_on_the_last_day_of_each_month(two):
    periods = origins(two, first="2024-08-31", months=1).periods
    assert [str(period.refit.date()) for period in periods] == ["2024-08-31", "2024-09-30", "2024-10-31", "2024-11-30"]


def test_a_period_without_forecasts_is_left_out(two):
    halted = {"VALE3": two["VALE3"][~two["VALE3"]["date"].between("2024-08-01", "2024-09-30")].reset_index(drop=True)}
    assert [period.number for period in origins(halted, months=1).periods] == [0, 3, 4, 5]
