import numpy as np
import pandas as pd
import pytest

from pregao.data.volatility import volatilities
from pregao.data.windows import (
    REFERENCE_BORDER,
    fraction_borders,
    joined,
    reference_borders,
    sessions_needed,
    sliding_windows,
    split_at,
    split_windows,
    too_few,
)
from pregao.errors import TooFewSessions
from tests.conftest import random_walk


def fractions(windows):
    return fraction_borders(windows, train=0.7, validation=0.15)


def reference(windows):
    return reference_borders(windows, train=0.7, validation=0.15)


def split_of(table, rule):
    return split_windows(sliding_windows(table, 20, 10), rule)


def test_targets_follow_their_inputs_without_a_gap():
    closes = pd.DataFrame({"date": pd.bdate_range("2024-01-01", periods=8), "close": np.arange(1.0, 9.0)})
    windows = sliding_windows(closes, lookback=3, horizon=2)
    assert windows.inputs.tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert windows.targets.tolist() == [[4, 5], [5, 6], [6, 7], [7, 8]]
    assert list(windows.cutoffs) == list(closes["date"].to_numpy("datetime64[ns]")[2:6])
    assert list(windows.dates[0]) == list(closes["date"].to_numpy("datetime64[ns]")[3:5])


def test_a_table_shorter_than_one_window_has_none():
    assert len(sliding_windows(random_walk(29), 20, 10)) == 0
    assert len(sliding_windows(random_walk(30), 20, 10)) == 1


@pytest.mark.parametrize("rule", [fractions, reference])
def test_no_target_of_one_part_is_a_target_of_another(rule):
    split = split_of(random_walk(600), rule)
    parts = [set(part.dates.ravel()) for part in (split.train, split.validation, split.test)]
    assert max(parts[0]) < min(parts[1])
    assert max(parts[1]) < min(parts[2])


def test_windows_that_straddle_a_border_are_dropped():
    windows = sliding_windows(random_walk(600), 20, 10)
    split = split_at(windows, fractions(windows))
    assert len(windows) - sum(map(len, (split.train, split.validation, split.test))) == 2 * 9


def test_inputs_may_reach_back_over_a_border():
    windows = sliding_windows(random_walk(600), 20, 10)
    split = split_at(windows, fractions(windows))
    assert split.test.cutoffs[0] < split.test.dates[0, 0]
    assert split.test.inputs[0, 0] in split.validation.targets


def test_the_fractions_are_those_of_the_windows():
    split = split_of(random_walk(1030), fractions)
    assert (len(split.train), len(split.validation), len(split.test)) == (692, 141, 150)


@pytest.mark.parametrize("rule", [fractions, reference])
def test_a_range_that_is_too_short_is_told_how_many_sessions_it_needs(vale3, rule):
    needed = sessions_needed(20, 10, rule)
    days = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(9), periods=needed)
    enough = pd.DataFrame({"date": days, "close": 1.0})
    assert len(split_of(enough, rule).test) >= 1
    assert split_of(enough.iloc[1:], rule) is None
    with pytest.raises(TooFewSessions, match=f"VALE3: {needed - 1} sessions .* at least {needed} are needed"):
        raise too_few(vale3, enough.iloc[1:], 20, 10, rule)


def test_a_long_range_that_ends_before_the_reference_border_is_told_so(vale3):
    closes = random_walk(600, last="2022-12-29")
    assert split_of(closes, reference) is None
    with pytest.raises(TooFewSessions, match="the test part starts on 2023-11-24"):
        raise too_few(vale3, closes, 20, 10, reference)


def test_the_reference_split_of_vale3_is_the_published_one(real_prices):
    table = pd.read_csv(real_prices / "VALE3.csv", parse_dates=["date"])
    table = table[table["date"].between("2020-01-01", "2025-07-27")]
    assert len(table) == 1385
    assert len(sliding_windows(table, 20, 10)) == 1356
    split = split_of(table, reference)
    assert len(split.test) == 407
    assert len(split.train) + len(split.validation) == 940 - 9


def test_a_windows_volatilities_are_those_known_at_its_cutoff():
    table = random_walk(60)
    measures = volatilities({"close": table["close"].to_numpy()}, "history")
    windows = sliding_windows(table, 20, 10, measures)
    for window, cutoff in enumerate(windows.cutoffs):
        [session] = np.flatnonzero(table["date"].to_numpy("datetime64[ns]") == cutoff)
        assert np.array_equal(windows.volatilities[window], measures[session].astype(np.float32), equal_nan=True)


def test_without_measures_the_long_run_of_the_closes_is_what_is_known():
    table = random_walk(60)
    long_run = volatilities({"close": table["close"].to_numpy()}, "window")[19:50]
    assert np.array_equal(sliding_windows(table, 20, 10).volatilities, long_run.astype(np.float32))


@pytest.mark.parametrize("n", [1, 2, 29])
def test_a_history_shorter_than_a_window_has_no_split(n):
    assert split_of(random_walk(n), fractions) is None


def test_windows_of_many_stocks_keep_their_stock_and_its_order():
    parts = [sliding_windows(random_walk(n, seed=n), 20, 10, stock=name) for name, n in (("A", 50), ("BBBB3", 40))]
    windows = joined(parts)
    assert len(windows) == 21 + 11
    places = dict(windows.by_stock())
    assert places == {"A": slice(0, 21), "BBBB3": slice(21, 32)}
    for part, (stock, place) in zip(parts, places.items(), strict=True):
        assert set(windows.where(place).stocks) == {stock}
        assert np.array_equal(windows.where(place).inputs, part.inputs)
        assert np.array_equal(windows.where(place).dates, part.dates)


def test_stocks_without_windows_have_no_place():
    windows = joined([sliding_windows(random_walk(n), 20, 10, stock=f"{n}") for n in (29, 30, 10)])
    assert list(windows.by_stock()) == [("30", slice(0, 1))]
    assert list(windows.where(np.zeros(1, bool)).by_stock()) == []
