"""Where a forecast goes before it is told: to the log, else beside it, else into memory until one of them takes it."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import pandas as pd

from pregao.errors import ForecastsUnavailable
from pregao.files import in_background
from pregao.forecasting.log import ForecastLog, Key, Record
from pregao.prices.table import PriceBasis
from pregao.settings import own_forecasts_uri, settings

logger = logging.getLogger(__name__)

SECONDS_TO_WRITE = 3.0
"""How long an answer waits for the log; a database that hangs must not hang the forecasts."""

SECONDS_BETWEEN_TRIES = 5.0


class Keeper:
    """Keeps every forecast, whatever happens to the log. For one thread.

    A forecast that was told is in the log; while a PostgreSQL is away, in the home's own file, from which it goes to
    the log later; while no disk takes it, in this process. So a process that is killed loses one only if neither
    database could be written, and then the next one that is asked for the stock before its next close makes the same
    forecast, and writes that.
    """

    def __init__(self) -> None:
        own = own_forecasts_uri(settings().home)
        self.log = ForecastLog(settings().forecasts_uri)
        self.spare = None if self.log.uri == own else ForecastLog(own)
        self._waiting: dict[Key, Record] = {}
        self._latest: dict[tuple[str, str], Record] = {}
        self._preparations = 0
        self._next_try = 0.0
        self._asked: Future[object] | None = None

    @property
    def waiting(self) -> int:
        """Forecasts that are in this process's memory alone."""
        return len(self._waiting)

    def keep(self, record: Record) -> None:
        """Write a forecast down; it never fails, and takes some seconds at most."""
        former = self._latest.get((record.stock, record.model))
        if former is not None and former.key == record.key:
            return
        self._latest[record.stock, record.model] = record
        self._waiting[record.key] = record
        if time.monotonic() >= self._next_try:
            self._to_the_log()
        if self._waiting and self.spare is not None:
            self._beside_the_log(self.spare)

    def settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> None:
        """Score what can be; see `ForecastLog.settle`."""
        self._in_time(partial(self.log.settle, stock, price, prices))

    def retry(self) -> None:
        """Bring to the log what is not there; to be called now and then."""
        if self._to_the_log() and self.spare is not None and self.spare.exists():
            self._in_time(partial(self.spare.move_to, self.log))

    def _to_the_log(self) -> bool:
        if not self._in_time(self.log.check):
            return False
        if self.log.preparations != self._preparations:  # the file may be another one: what it had is written again
            self._waiting |= {record.key: record for record in self._latest.values()}
        records = list(self._waiting.values())
        if records and not self._in_time(partial(self.log.add, records)):
            return False
        self._preparations = self.log.preparations
        self._forget(records)
        return True

    def _beside_the_log(self, spare: ForecastLog) -> None:
        records = list(self._waiting.values())
        try:
            spare.add(records)
        except ForecastsUnavailable as error:
            logger.warning("%s", error)
        else:
            self._forget(records)

    def _forget(self, records: list[Record]) -> None:
        for record in records:
            self._waiting.pop(record.key, None)

    def _in_time(self, work: Callable[[], object]) -> bool:
        """Whether the log did it, within the time that an answer may take."""
        if self._asked is not None and not self._asked.done():
            return False  # it still hangs at what it was asked before
        # A thread that ends with its program: one that hangs must not keep a command from ending.
        self._asked = in_background(work)
        try:
            self._asked.result(SECONDS_TO_WRITE)
        except TimeoutError:
            logger.warning("The log of forecasts does not answer within %g s; it is asked again.", SECONDS_TO_WRITE)
        except ForecastsUnavailable as error:
            logger.warning("%s", error)
        else:
            return True
        self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES
        return False
