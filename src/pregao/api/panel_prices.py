"""The prices of the panel's stocks, refreshed in the background after each session; no request waits for them."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date

from pregao.config import SourceChoices
from pregao.errors import PregaoError, PricesUnavailable
from pregao.forecasting.market import LEAST_SHARE, panel_folder
from pregao.prices.calendar import last_finished_session
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import SAMPLES, Symbol
from pregao.settings import settings

logger = logging.getLogger(__name__)

DOWNLOADS = ("auto", "yahoo")
"""Sources that write the price cache; the others answer from files."""


class PanelPrices:
    """Downloads the latest prices of a panel into the price cache, one stock after another, in one thread.

    Args:
        source: of the prices.
        retry: seconds between checks for a session that has ended.
        stocks: returns the panel.

    Attributes:
        folder: the panel's tables; None for a source without other stocks.
        refreshed: number of refreshes that changed the tables.
    """

    def __init__(self, source: SourceChoices, retry: float, stocks: Callable[[], Iterable[str]]) -> None:
        self.source = source
        self.retry = retry
        self.stocks = stocks
        self.folder = panel_folder(source.name, source.path)
        self.refreshed = 0
        self._done: tuple[date, list[str]] | None = None
        self._seen: list[float] = []
        self._logged: set[str] = set()
        self._downloader = Downloader(source.name, source.path)  # one for all refreshes logs each warning once
        self._closed = threading.Event()
        # A daemon: a source that hangs must not delay the end of the process.
        self._thread = threading.Thread(target=self._watch, name="panel", daemon=True)

    def start(self) -> None:
        """Start the thread, once; a source that answers from files needs none."""
        if self.source.name in DOWNLOADS and not self._thread.is_alive():
            self._thread.start()

    def close(self) -> None:
        """Stop the thread after the present download."""
        self._closed.set()

    def refresh(self) -> None:
        """Download the stocks that lack the last session; nothing once most of them have it."""
        stocks = sorted(set(self.stocks()) - set(SAMPLES))
        due = last_finished_session("BVMF"), stocks
        if not stocks or self._done == due:
            return
        days = list(self._last_days(stocks))
        if sum(day >= due[0] for day in days) >= LEAST_SHARE * len(stocks):
            self._done = due
        seen = [file.stat().st_mtime for stock in stocks if (file := settings().data / f"{stock}.csv").exists()]
        self.refreshed += seen != self._seen
        self._seen = seen

    def _last_days(self, stocks: Iterable[str]) -> Iterator[date]:
        """The day of each stock's last close, downloaded if needed; ends where the source does not answer."""
        for stock in stocks:
            if self._closed.is_set():
                return
            try:
                prices = self._downloader.latest(Symbol.parse(stock), 1)
            except PricesUnavailable as error:
                self._warn(f"The market is not refreshed: {error}")
                return
            except PregaoError as error:
                self._warn(f"{stock} is left out of the market: {error}")
                continue
            if prices.stale and prices.tried:  # the source does not answer; the downloader has logged it
                return
            yield prices.as_of

    def _warn(self, sentence: str) -> None:
        if sentence not in self._logged:
            logger.warning("%s", sentence)
            self._logged.add(sentence)

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                self.refresh()
            except Exception:  # the thread must continue; answers say the age of the market
                logger.exception("The market is not refreshed.")
            self._closed.wait(self.retry)
