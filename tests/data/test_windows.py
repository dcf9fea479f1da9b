from functools import partial

import numpy as np
import pandas as pd
import pytest

from pregao.data.volatility import volatilities
from pregao.data.windows import (
    REFERENCE_BORDER,
    border_rule,
    borders_before,
    joined,
    sessions_needed,
    sliding_windows,
    split_at,
    split_windows,
    too_few,
)
from pregao.errors import TooFewSessions
from tests.conftest import random_walk

FRACTIONS, REFERENCE = (border_rule(name, train=0.7, validation=0.15) for name in ("date", "reference"))


def windows_of(table):
    return sliding_windows(table, 20, 10)


def split_of(table, rule):
    return split_windows(table, 20, 10, rule)


def days(first, n):
    return pd.DataFrame({"date": pd.bdate_range(first, periods=n), "close": np.arange(1.0, n + 1)})


def test_targets_follow_their_inputs_without_a_gap():
    table = days("2024-01-01", 8)
    dates = table["date"].to_numpy("datetime64[ns]")
    windows = sliding_windows(table, lookback=3, horizon=2)
    assert windows.inputs.tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert windows.targets.tolist() == [[4, 5], [5, 6], [6, 7], [7, 8]]
    assert list(windows.cutoffs) == list(dates[2:6])
    assert list(windows.dates[0]) == list(dates[3:5])


def test_a_table_shorter_than_one_window_has_none():
    assert [len(windows_of(random_walk(n))) for n in (1, 29, 30)] == [0, 0, 1]
    assert split_of(random_walk(29), FRACTIONS) is None


def test_a_window_belongs_to_the_part_that_contains_all_its_targets():
    windows = sliding_windows(days("2024-01-01", 12), lookback=2, horizon=2)  # first targets: closes 3 to 11
    dates = windows.dates[:, 0]
    split = split_at(windows, (dates[4], dates[7]))
    assert [part.targets[:, 0].tolist() for part in (split.train, split.validation, split.test)] == [
        [3, 4, 5],
        [7, 8],
        [10, 11],
    ]
    assert split.test.inputs[0].tolist() == [8, 9]  # inputs may reach back over a border


def test_the_published_split_validates_on_its_test_windows_alone():
    table = random_walk(1030)
    split = split_windows(table, 20, 10, border_rule("published", train=0.7, validation=0.15))
    border = REFERENCE_BORDER.to_datetime64()
    assert split.validation.dates.tobytes() == split.test.dates.tobytes()
    assert split.train.dates.max() < border <= split.test.dates.min()
    assert len(split.train) == (windows_of(table).dates[:, -1] < border).sum()


def test_a_test_part_from_a_date_leaves_the_windows_before_it_to_the_other_parts():
    windows = sliding_windows(days("2024-01-01", 24), lookback=2, horizon=3)
    dates = windows.dates[:, 0]
    assert borders_before(windows, dates[12], train=0.8) == (dates[8], dates[12])  # 10 windows end before it


@pytest.mark.parametrize("rule", [FRACTIONS, REFERENCE])
def test_a_short_history_is_refused_with_the_number_of_sessions_it_needs(vale3, rule):
    needed = sessions_needed(20, 10, rule)
    dates = pd.bdate_range(end=REFERENCE_BORDER + pd.offsets.BDay(9), periods=needed)
    enough = pd.DataFrame({"date": dates, "close": 1.0})
    assert len(split_of(enough, rule).test) >= 1
    assert split_of(enough.iloc[1:], rule) is None
    with pytest.raises(TooFewSessions, match=f"VALE3: {needed - 1} sessions .* at least {needed} are needed"):
        raise too_few(vale3, enough.iloc[1:], 20, 10, rule)


def test_a_long_history_before_the_reference_border_is_refused_with_that_date(vale3):
    table = random_walk(600, last="2022-12-29")
    assert split_of(table, REFERENCE) is None
    with pytest.raises(TooFewSessions, match="2023-11-24"):
        raise too_few(vale3, table, 20, 10, REFERENCE)


def test_the_reference_split_of_vale3_is_the_published_one(real_prices):
    table = pd.read_csv(real_prices / "VALE3.csv", parse_dates=["date"])
    table = table[table["date"].between("2020-01-01", "2025-07-27")]
    split = split_of(table, REFERENCE)
    assert (len(table), len(windows_of(table)), len(split.test)) == (1385, 1356, 407)
    assert len(split.train) + len(split.validation) == 940 - 9


@pytest.mark.parametrize("inputs", ["window", "history"])
def test_a_window_has_the_volatilities_known_at_its_cutoff(inputs):
    table = random_walk(60)
    measures = volatilities({"close": table["close"].to_numpy()}, inputs)
    windows = sliding_windows(table, 20, 10, None if inputs == "window" else measures)
    sessions = np.searchsorted(table["date"].to_numpy("datetime64[ns]"), windows.cutoffs)
    assert np.array_equal(windows.volatilities, measures[sessions].astype(np.float32), equal_nan=True)


def test_joined_windows_keep_their_stocks_and_order():
    make = partial(sliding_windows, lookback=20, horizon=10)
    parts = [make(random_walk(n, seed=n), stock=name) for name, n in (("A", 50), ("none", 29), ("BBBB3", 40))]
    windows = joined(parts)
    assert dict(windows.by_stock()) == {"A": slice(0, 21), "BBBB3": slice(21, 32)}
    for part, (stock, place) in zip(parts[::2], windows.by_stock(), strict=True):
        assert set(windows.where(place).stocks) == {stock}
        assert np.array_equal(windows.where(place).inputs, part.inputs)
        assert np.array_equal(windows.where(place).dates, part.dates)
    assert list(windows.where(np.zeros(32, bool)).by_stock()) == []
