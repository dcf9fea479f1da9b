import numpy as np
import pandas as pd
import pytest

from pregao.errors import TooFewSessions
from pregao.windows import (
    REFERENCE_BORDER,
    fraction_borders,
    reference_borders,
    sessions_needed,
    sliding_windows,
    split_at,
    split_windows,
)
from tests.conftest import random_walk


def fractions(windows):
    return fraction_borders(windows, train=0.7, validation=0.15)


def reference(windows):
    return reference_borders(windows, train=0.7, validation=0.15)


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
def test_no_target_of_one_part_is_a_target_of_another(vale3, rule):
    split = split_windows(vale3, random_walk(600), 20, 10, rule)
    parts = [set(part.dates.ravel()) for part in (split.train, split.validation, split.test)]
    assert max(parts[0]) < min(parts[1])
    assert max(parts[1]) < min(parts[2])


def test_windows_that_straddle_a_border_are_dropped(vale3):
    windows = sliding_windows(random_walk(600), 20, 10)
    split = split_at(windows, fractions(windows))
    assert len(windows) - sum(map(len, (split.train, split.validation, split.test))) == 2 * 9


def test_inputs_may_reach_back_over_a_border():
    windows = sliding_windows(random_walk(600), 20, 10)
    split = split_at(windows, fractions(windows))
    assert split.test.cutoffs[0] < split.test.dates[0, 0]
    assert split.test.inputs[0, 0] in split.validation.targets


def test_the_fractions_are_those_of_the_windows(vale3):
    split = split_windows(vale3, random_walk(1030), 20, 10, fractions)
    assert (len(split.train), len(split.validation), len(split.test)) == (692, 141, 150)


@pytest.mark.parametrize("rule", [fractions, reference])
def test_a_range_that_is_too_short_is_told_how_many_sessions_it_needs(vale3, rule):
    needed = sessions_needed(20, 10, rule)
    days = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(9), periods=needed)
    enough = pd.DataFrame({"date": days, "close": 1.0})
    assert len(split_windows(vale3, enough, 20, 10, rule).test) >= 1
    with pytest.raises(TooFewSessions, match=f"VALE3: {needed - 1} sessions .* at least {needed} are needed"):
        split_windows(vale3, enough.iloc[1:], 20, 10, rule)


def test_a_long_range_that_ends_before_the_reference_border_is_told_so(vale3):
    closes = random_walk(600, last="2022-12-29")
    with pytest.raises(TooFewSessions, match="the test part begins on 2023-11-24"):
        split_windows(vale3, closes, 20, 10, reference)


def test_the_reference_split_of_vale3_is_the_published_one(real_prices, vale3):
    table = pd.read_csv(real_prices / "VALE3.csv", parse_dates=["date"])
    table = table[table["date"].between("2020-01-01", "2025-07-27")]
    assert len(table) == 1385
    assert len(sliding_windows(table, 20, 10)) == 1356
    split = split_windows(vale3, table, 20, 10, reference)
    assert len(split.test) == 407
    assert len(split.train) + len(split.validation) == 940 - 9
