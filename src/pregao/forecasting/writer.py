"""Writes each forecast to the log; where the log is unavailable, keeps it in memory and retries."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Lock

import pandas as pd

from pregao.errors import ForecastsUnavailable
from pregao.files import in_background
from pregao.forecasting.log import ForecastLog, Key, Record
from pregao.prices.table import PriceBasis
from pregao.settings import settings, sqlite_uri

logger = logging.getLogger(__name__)

SECONDS_TO_WRITE = 3.0
"""How long a response waits for the log: a database that hangs must not block forecasts."""

SECONDS_BETWEEN_TRIES = 5.0


class ForecastWriter:
    """Writes forecasts to the log, and retries those that it could not write. Thread-safe.

    A killed process loses the forecasts that wait in its memory; their responses said `recorded: false`. The next
    request for the stock before its next close makes the same forecast and writes it.
    """

    def __init__(self) -> None:
        self.log = ForecastLog(settings().forecasts_uri)
        self._waiting: dict[Key, Record] = {}
        self._latest: dict[tuple[str, str], Record] = {}
        self._preparations = 0
        self._next_try = 0.0
        self._call: Future[object] | None = None
        self._lock = Lock()
        file = ForecastLog(sqlite_uri(settings().outputs / "forecasts.db"))
        self._to_move = file if file.file != self.log.file else None

    @property
    def waiting(self) -> int:
        """The number of forecasts that are only in this process's memory."""
        return len(self._waiting)

    def write(self, record: Record) -> bool:
        """Write a forecast; returns whether it is in the log. Never raises, and takes a few seconds at most."""
        with self._lock:
            latest = self._latest.get((record.stock, record.model))
            if latest is None or latest.key != record.key:
                self._latest[record.stock, record.model] = self._waiting[record.key] = record
            if record.key in self._waiting and time.monotonic() >= self._next_try:
                self._flush()
            return record.key not in self._waiting

    def retry(self) -> None:
        """Write every waiting forecast; to be called at intervals."""
        with self._lock:
            self._flush()

    def settle(self, stock: str, price: PriceBasis, prices: pd.DataFrame) -> None:
        """Score past forecasts; see `ForecastLog.settle`."""
        with self._lock:
            self._done_in_time(partial(self.log.settle, stock, price, prices))

    def _flush(self) -> None:
        if not self._done_in_time(partial(self._add, list(self._waiting.values()), list(self._latest.values()))):
            self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES
            return
        self._waiting.clear()
        if self._to_move is not None and self._to_move.exists():
            self._done_in_time(partial(self._to_move.move_to, self.log))
        self._to_move = None

    def _add(self, waiting: list[Record], latest: list[Record]) -> None:
        self.log.check()
        if self.log.preparations != self._preparations:  # perhaps a new, empty file: write the latest ones again
            waiting = [*waiting, *latest]
        self.log.add(waiting)
        self._preparations = self.log.preparations

    def _done_in_time(self, work: Callable[[], object]) -> bool:
        """Run work in a thread; whether it succeeds within SECONDS_TO_WRITE."""
        if self._call is not None and not self._call.done():
            return False  # the previous call still hangs
        self._call = in_background(work)
        try:
            self._call.result(SECONDS_TO_WRITE)
        except TimeoutError:
            logger.warning("The log of forecasts did not answer within %g s; it is retried.", SECONDS_TO_WRITE)
        except ForecastsUnavailable as error:
            logger.warning("%s", error)
        else:
            return True
        return False
