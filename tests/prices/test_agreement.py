"""The comparison of two sources of a stock's prices."""

from datetime import date

import pandas as pd
import pytest

from pregao.prices.agreement import compare
from tests.prices.conftest import prices_of


def compared(first, second):
    return compare(first, second, ("b3", "yahoo"), 0.1)


def test_dates_that_differ_by_more_than_the_tolerance_are_reported_in_percent_of_the_second():
    agreement = compared(prices_of([10.0] * 4), prices_of([10.0, 10.009, 10.011, 9.0]))
    assert agreement.differing["date"].dt.date.tolist() == [date(2024, 1, 4), date(2024, 1, 5)]
    assert agreement.differing["percent"].tolist() == pytest.approx([-0.10988, 11.1111], abs=1e-4)
    assert agreement.only == ((), ())


def test_dates_of_only_one_source_are_listed_within_the_common_range():
    apart = compared(prices_of([10.0, 11.0]), prices_of([10.0], start="2024-03-01"))
    assert (len(apart.both), apart.only, len(apart.stretches)) == (0, ((), ()), 0)
    whole = prices_of([10.0] * 8)
    agreement = compared(whole.drop(index=[3]), whole.drop(index=[0, 4, 7]))
    assert (agreement.only, len(agreement.both)) == (((date(2024, 1, 8),), (date(2024, 1, 5),)), 4)


def test_a_split_that_only_one_source_has_applied_is_one_run_of_dates():
    first, second = prices_of([20.0, 22.0, 24.0, 13.0, 20.0, 12.5]), prices_of([10.0, 11.0, 12.0, 13.0, 10.0, 12.4])
    stretches = compared(first, second).stretches
    assert stretches["dates"].tolist() == [3, 1, 1]
    assert stretches["ratio"].tolist() == pytest.approx([2.0, 2.0, 1.00806], abs=1e-4)
    assert stretches["until"].iloc[0] == pd.Timestamp("2024-01-04")
