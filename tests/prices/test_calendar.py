from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pregao.prices import calendar


def at(text, zone="America/Sao_Paulo"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def test_sessions_are_naive_days_of_the_market_and_both_ends_count():
    days = calendar.sessions("BVMF", date(2024, 12, 30), date(2025, 1, 3))
    assert [day.date() for day in days] == [date(2024, 12, 30), date(2025, 1, 2), date(2025, 1, 3)]
    assert days.tz is None
    assert calendar.sessions("XNYS", date(2024, 7, 4), date(2024, 7, 4)).empty


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (at("2024-05-10 18:44:59"), "2024-05-09"),
        (at("2024-05-10 18:45"), "2024-05-10"),  # New York has summer time: regular trading ended at 17:00
        (at("2026-11-19 18:44"), "2026-11-18"),
        (at("2024-12-24 23:59"), "2024-12-23"),  # a holiday
        (at("2024-05-11 06:44", "Asia/Tokyo"), "2024-05-09"),
        (at("2024-05-12 12:00", "UTC"), "2024-05-10"),  # a Sunday
    ],
)
def test_a_close_is_final_from_18_45_in_sao_paulo_in_any_time_zone(now, last):
    assert str(calendar.last_finished_session("BVMF", now)) == last


def test_the_next_close_is_after_the_moment():
    assert calendar.next_close("BVMF", at("2024-05-10 18:44")) == at("2024-05-10 18:45")
    assert calendar.next_close("BVMF", at("2024-05-10 18:45")) == at("2024-05-13 18:45")


def test_next_sessions_start_after_the_day_and_end_beyond_the_default_calendar():
    expected = [date(2024, 12, 30), date(2025, 1, 2), date(2025, 1, 3)]
    for day in (27, 28):
        assert calendar.next_sessions("BVMF", date(2024, 12, day), 3) == expected
    assert calendar.last_session_until("BVMF", date(2024, 12, 29)) == date(2024, 12, 27)
    after = datetime.now(UTC).date() + timedelta(days=3 * 365)
    assert len(calendar.next_sessions("BVMF", after, 300)) == 300
