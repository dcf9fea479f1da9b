"""start= and end=: two ISO dates, both inclusive."""

import re
from contextlib import suppress
from datetime import date, datetime
from zoneinfo import ZoneInfo

from pregao.errors import InvalidDates

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_dates(
    start: date | str, end: date | str | None, today: date | None = None, name: str = "start"
) -> tuple[date, date | None]:
    """Parse the two ends of a range; `end=None` means up to the last finished session.

    Args:
        start: first day, inclusive.
        end: last day, inclusive; may lie in the future.
        today: the current date in São Paulo by default.
        name: the setting that `start` comes from, for the error.

    Raises:
        InvalidDates: malformed dates, a reversed range, or a start in the future.
    """
    first = _parse(name, start)
    last = None if end is None else _parse("end", end)
    today = today or datetime.now(ZoneInfo("America/Sao_Paulo")).date()
    if first > today:
        raise InvalidDates(f"{name}={first} is in the future (today is {today}). Give a day in the past.")
    if last is not None and last < first:
        raise InvalidDates(f"{name}={first} is after end={last}. Both are inclusive; exchange them or leave end= out.")
    return first, last


def _parse(name: str, given: date | str) -> date:
    if isinstance(given, date):
        return given.date() if isinstance(given, datetime) else given
    with suppress(ValueError):
        if isinstance(given, str) and _ISO.fullmatch(given.strip()):
            return date.fromisoformat(given.strip())
    remedy = f"Write it as year-month-day, for example {name}=2020-01-31."
    raise InvalidDates(f"{name}={str(given)[:40]} is not a date. {remedy}")
