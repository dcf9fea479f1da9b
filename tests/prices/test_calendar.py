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


@pytest.mark.parametrize(
    ("day", "before"),
    [
        ("2026-11-19", "2026-11-18"),  # New York on standard time: the closing call ends at 18:00
        ("2025-07-28", "2025-07-25"),  # on summer time trading ends at 17:00, and after hours at 18:00
        ("2025-03-05", "2025-02-28"),  # Ash Wednesday: opens at 13:00, closes as ever; Monday and Tuesday are carnival
        ("2026-02-18", "2026-02-13"),
        ("2024-12-30", "2024-12-27"),  # the year's last session
        ("2025-12-23", "2025-12-22"),
        ("2022-01-25", "2022-01-24"),  # São Paulo's own holidays are sessions since 2022
        ("2024-07-09", "2024-07-08"),
        ("2023-11-20", "2023-11-17"),  # and Black Awareness Day was one until it became a national holiday
    ],
)
def test_a_session_is_over_at_18_and_not_a_minute_before(day, before):
    at = datetime.combine(date.fromisoformat(day), datetime.min.time(), SAO_PAULO)
    for hour, minute, last in ((9, 0, before), (17, 59, before), (18, 1, day), (23, 59, day)):
        assert str(calendar.last_finished_session("BVMF", at.replace(hour=hour, minute=minute))) == last


@pytest.mark.parametrize(
    ("day", "before"),
    [
        ("2024-12-24", "2024-12-23"),
        ("2025-12-24", "2025-12-23"),
        ("2026-12-24", "2026-12-23"),
        ("2024-12-31", "2024-12-30"),
        ("2025-12-31", "2025-12-30"),
        ("2025-03-04", "2025-02-28"),
        ("2024-11-20", "2024-11-19"),
        ("2026-11-20", "2026-11-19"),
        ("2025-06-19", "2025-06-18"),
        ("2025-04-18", "2025-04-17"),
    ],
)
def test_christmas_eve_new_years_eve_and_holidays_finish_nothing(day, before):
    at = datetime.combine(date.fromisoformat(day), datetime.min.time(), SAO_PAULO)
    for hour, minute in ((0, 0), (17, 59), (18, 1), (23, 59)):
        assert str(calendar.last_finished_session("BVMF", at.replace(hour=hour, minute=minute))) == before


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Pacific/Pago_Pago"]
)
def test_the_same_moment_in_any_zone_has_the_same_last_session(zone):
    for minute, last in ((59, date(2026, 11, 18)), (61, date(2026, 11, 19))):
        at = datetime(2026, 11, 19, 17, 0, tzinfo=SAO_PAULO) + timedelta(minutes=minute)
        assert calendar.last_finished_session("BVMF", at.astimezone(ZoneInfo(zone))) == last


def test_a_clock_without_a_time_zone_is_refused():
    with pytest.raises(TypeError, match="naive"):
        calendar.last_finished_session("BVMF", datetime(2026, 11, 19, 18, 1))


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
