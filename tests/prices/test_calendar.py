import os
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pregao.prices import calendar

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def test_sessions_are_naive_days_and_both_ends_count():
    days = calendar.sessions("BVMF", date(2024, 12, 30), date(2025, 1, 3))
    assert [day.date() for day in days] == [date(2024, 12, 30), date(2025, 1, 2), date(2025, 1, 3)]
    assert days.tz is None


def test_each_market_has_its_own_holidays():
    day = date(2024, 7, 4)
    assert len(calendar.sessions("BVMF", day, day)) == 1
    assert len(calendar.sessions("XNYS", day, day)) == 0


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2024, 5, 10, 9, 59, tzinfo=SAO_PAULO), date(2024, 5, 9)),
        (datetime(2024, 5, 10, 16, 59, tzinfo=SAO_PAULO), date(2024, 5, 9)),
        (datetime(2024, 5, 10, 18, 1, tzinfo=SAO_PAULO), date(2024, 5, 10)),
        (datetime(2024, 5, 11, 5, 0, tzinfo=ZoneInfo("Asia/Tokyo")), date(2024, 5, 9)),
        (datetime(2024, 5, 12, 12, 0, tzinfo=UTC), date(2024, 5, 10)),
    ],
)
def test_a_session_is_finished_after_its_close_in_sao_paulo(now, last):
    assert calendar.last_finished_session("BVMF", now) == last


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_hosts_time_zone_changes_nothing(zone, monkeypatch):
    expected = calendar.last_finished_session("BVMF")
    monkeypatch.setitem(os.environ, "TZ", zone)
    time.tzset()
    try:
        assert calendar.last_finished_session("BVMF") == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_next_sessions_skip_weekends_and_holidays_and_begin_after_the_day():
    expected = [date(2024, 12, 30), date(2025, 1, 2), date(2025, 1, 3)]
    assert calendar.next_sessions("BVMF", date(2024, 12, 27), 3) == expected
    assert calendar.next_sessions("BVMF", date(2024, 12, 28), 3) == expected


def test_next_sessions_are_known_long_after_the_default_calendar_ends():
    after = datetime.now(UTC).date() + timedelta(days=3 * 365)
    days = calendar.next_sessions("BVMF", after, 300)
    assert len(days) == 300
    assert after < days[0] <= after + timedelta(days=7)


def test_the_last_session_until_a_sunday_is_its_friday():
    assert calendar.last_session_until("BVMF", date(2024, 5, 12)) == date(2024, 5, 10)
