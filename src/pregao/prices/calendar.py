"""Trading sessions of a market, from exchange_calendars."""

import warnings
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import pandas as pd

# Yahoo's B3 history starts in 2000 and the sample in 1999; one shared start keeps one calendar in memory
_FIRST_YEAR = 1999
# Yahoo's quotes lag by up to 30 minutes, and a close that is stored too early would be kept until the next session
_UNTIL_FINAL = timedelta(minutes=45)
_LONGEST_PAUSE = timedelta(days=31)  # New York closed for four months in 1914, and for at most six days since 1999


def sessions(calendar: str, start: date, end: date) -> pd.DatetimeIndex:
    """Sessions of BVMF or XNYS from start to end, both inclusive, naive midnights."""
    days: pd.DatetimeIndex = _covering(calendar, start, end).sessions.as_unit("us")
    return days[(days >= pd.Timestamp(start)) & (days <= pd.Timestamp(end))]


def last_finished_session(calendar: str, now: datetime | None = None) -> date:
    """The last session whose close is final: 45 minutes after it.

    B3's close is 18:00 São Paulo time since 2019-11-04, as in exchange_calendars: the end of the closing call during
    New York's standard time, and of after-hours trading during its summer time, when regular trading ends at 17:00.

    Args:
        calendar: BVMF or XNYS.
        now: with a time zone; the present moment by default.
    """
    moment = pd.Timestamp(now or datetime.now(UTC)).tz_convert("UTC")
    closes: pd.Series[pd.Timestamp] = _covering(calendar, moment.date(), moment.date()).closes
    last: date = closes.index[closes + _UNTIL_FINAL <= moment][-1].date()
    return last


def next_close(calendar: str, now: datetime | None = None) -> datetime:
    """The moment at which the next close is final, UTC."""
    moment = pd.Timestamp(now or datetime.now(UTC)).tz_convert("UTC")
    closes: pd.Series[pd.Timestamp] = _covering(calendar, moment.date(), (moment + _LONGEST_PAUSE).date()).closes
    final = closes + _UNTIL_FINAL
    upcoming: datetime = final[final > moment].iloc[0].to_pydatetime()
    return upcoming


def last_session_until(calendar: str, day: date) -> date:
    """The last session on or before a day."""
    return pd.Timestamp(sessions(calendar, day - _LONGEST_PAUSE, day)[-1]).date()


def next_sessions(calendar: str, after: date, n: int) -> list[date]:
    """The first n sessions after a day, exclusive."""
    horizon = date(after.year + 1 + n // 200, 12, 31)
    return [day.date() for day in sessions(calendar, after, horizon) if day.date() > after][:n]


def _covering(name: str, start: date, end: date) -> Any:  # noqa: ANN401 - exchange_calendars has no types
    return _calendar(name, min(_FIRST_YEAR, start.year), max(datetime.now(UTC).year, end.year) + 1)


@lru_cache(maxsize=8)
def _calendar(name: str, first_year: int, last_year: int) -> Any:  # noqa: ANN401
    import exchange_calendars

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 uses an interface that pandas 4 will change
        return exchange_calendars.get_calendar(name, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
