from datetime import date, datetime

import pytest

from pregao.errors import InvalidDates
from pregao.prices.dates import parse_dates

TODAY = date(2024, 5, 10)


@pytest.mark.parametrize("start", ["2020-01-02", date(2020, 1, 2), datetime(2020, 1, 2, 15)])
def test_a_date_may_be_text_or_date(start):
    assert parse_dates(start, None, TODAY) == (date(2020, 1, 2), None)


def test_one_day_is_a_range_and_the_end_may_lie_ahead():
    assert parse_dates("2024-05-10", "2024-05-10", TODAY) == (TODAY, TODAY)
    assert parse_dates("2024-05-10", "2030-01-01", TODAY) == (TODAY, date(2030, 1, 1))


@pytest.mark.parametrize(
    "bad", ["2020-13-01", "2020-02-30", "20200101", "01/02/2020", "", "today", 20200101, None, "２020-01-01"]
)
def test_a_malformed_start_is_refused_with_the_way_to_write_it(bad):
    with pytest.raises(InvalidDates, match=r"start=.* is not a date\. Write it as year-month-day"):
        parse_dates(bad, None, TODAY)


def test_a_malformed_end_is_named_as_end():
    with pytest.raises(InvalidDates, match=r"^end=2020-13-01 is not a date"):
        parse_dates("2020-01-01", "2020-13-01", TODAY)


def test_a_reversed_range_is_refused():
    with pytest.raises(InvalidDates, match=r"start=2020-01-02 is after end=2020-01-01\."):
        parse_dates("2020-01-02", "2020-01-01", TODAY)


def test_a_start_in_the_future_is_refused():
    with pytest.raises(InvalidDates, match=r"start=2024-05-11 is in the future \(today is 2024-05-10\)"):
        parse_dates("2024-05-11", None, TODAY)
