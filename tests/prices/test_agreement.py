"""The comparison of two sources of a stock's prices."""

from datetime import date

import pandas as pd
import pytest

from pregao.prices.agreement import compare
from tests.prices.conftest import prices_of

NAMES = ("b3", "yahoo")


def test_dates_that_differ_by_more_than_the_tolerance_are_reported_in_percent_of_the_second():
    first, second = prices_of([10.0, 10.0, 10.0, 10.0]), prices_of([10.0, 10.009, 10.011, 9.0])
    agreement = compare(first, second, NAMES, 0.1)
    assert agreement.differing["date"].dt.date.tolist() == [date(2024, 1, 4), date(2024, 1, 5)]
    assert agreement.differing["percent"].tolist() == pytest.approx([-0.10988, 11.1111], abs=1e-4)
    assert agreement.only == ((), ())


def test_dates_of_only_one_source_are_listed_within_the_common_range():
    table = prices_of([10.0, 11.0])
    apart = compare(table, prices_of([10.0], start="2024-03-01"), NAMES, 0.1)
    assert (len(apart.both), apart.only, len(apart.stretches)) == (0, ((), ()), 0)
    whole = prices_of([10.0] * 8)
    agreement = compare(whole.drop(index=[3]), whole.drop(index=[0, 4, 7]), NAMES, 0.1)
    assert agreement.only == ((date(2024, 1, 8),), (date(2024, 1, 5),))
    assert len(agreement.both) == 4


def test_a_split_that_only_one_source_has_applied_is_one_run_of_dates():
    first = prices_of([20.0, 22.0, 24.0, 13.0, 20.0, 12.5])
    second = prices_of([10.0, 11.0, 12.0, 13.0, 10.0, 12.4])
    stretches = compare(first, second, NAMES, 0.1).stretches
    assert stretches["dates"].tolist() == [3, 1, 1]
    assert stretches["ratio"].tolist() == pytest.approx([2.0, 2.0, 1.00806], abs=1e-4)
    assert stretches["until"].iloc[0] == pd.Timestamp("2024-01-04")
    assert compare(first, first, NAMES, 0.1).stretches.empty
