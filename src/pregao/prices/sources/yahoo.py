"""Yahoo Finance through yfinance: the whole history, or the reason of the failure within a time limit."""

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from pregao.errors import BadPrices, PregaoError, PricesUnavailable, UnknownStock
from pregao.files import in_background
from pregao.prices.actions import Actions, ActionStore, from_yahoo
from pregao.prices.sources import Source
from pregao.prices.symbols import Symbol
from pregao.prices.table import first_five, last_day, shaped
from pregao.settings import settings

_ZONE = {"BVMF": "America/Sao_Paulo", "XNYS": "America/New_York"}
_OWN_PRICES = "read your own prices with source=csv source.path=DIR."
_UNAVAILABLE = f"Check the network, try again later, or {_OWN_PRICES}"
# yfinance passes on only Yahoo's description, not its code «Not Found»
_NO_SUCH_STOCK = ("no data found", "delisted", "not found")
# class names of yfinance, curl_cffi and requests; the first name among the error's class and its ancestors counts
_REASONS = {
    "YFRateLimitError": "rate limit: Yahoo refuses more requests for now (HTTP 429)",
    "DNSError": "no network: Yahoo's name could not be resolved",
    "Timeout": "time-out: no answer in time",
    "TimeoutError": "time-out: no answer in time",
    "YFTickerMissingError": "an empty answer",
    "YFDataException": "Yahoo says that it is down",
    "JSONDecodeError": "an answer that is not JSON (a web page of a proxy, or of Yahoo)",
    "InvalidJSONError": "an answer that is not JSON (a web page of a proxy, or of Yahoo)",
    "OSError": "no connection",
}


class YahooSource(Source):
    """Requests prices from Yahoo, and retries transient errors until the deadline.

    Args:
        deadline: seconds in total; with its imports a command must fail within 30.
        timeout: seconds per request; yfinance makes up to four requests before the one for prices.
        attempts: number of requests for the history, at most.
        pause: seconds before the second attempt; doubles with each.
    """

    writes_the_cache = True

    def __init__(self, deadline: float = 24, timeout: float = 6, attempts: int = 3, pause: float = 1) -> None:
        self.deadline, self.timeout = deadline, timeout
        self.attempts, self.pause = attempts, pause
        self.actions = Actions()

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """All days since Yahoo's first, including today's unfinished session; see `Source.history`."""
        end = time.monotonic() + self.deadline
        try:
            # A thread, because name resolution and yfinance's locks have no time limit.
            return in_background(partial(self._try_repeatedly, symbol, end)).result(self.deadline)
        except TimeoutError:
            reason = f"yahoo: time-out: no answer in {self.deadline:g} s"
            raise PricesUnavailable(symbol, [reason], _UNAVAILABLE) from None

    def accept(self, symbol: Symbol) -> tuple[str, ...]:
        """Store the splits and dividends for source=b3; see `Source.accept`."""
        if self.actions.until is None:
            return ()
        store = ActionStore()
        try:
            stored = store.read(symbol, "yahoo")
        except BadPrices:
            stored = Actions()  # the damaged file is replaced
        _refuse_fewer(symbol, self.actions, stored)
        try:
            store.write(symbol, "yahoo", self.actions)
        except OSError as error:
            reason = error.strerror or error
            return (f"{symbol}: Yahoo's splits and dividends were not stored for source=b3 ({reason}).",)
        return ()

    def _try_repeatedly(self, symbol: Symbol, end: float) -> pd.DataFrame:
        refusal: PregaoError | None = None
        for pause in self._pauses(end):
            time.sleep(pause)
            try:
                frame = _ask(symbol, self.timeout)
                table = normalise(frame)
            except Exception as error:  # yfinance does not catch the errors of its parsing
                refusal = _refusal(symbol, error)
                # a second request within seconds makes Yahoo's rate limit last longer
                if isinstance(refusal, UnknownStock) or type(error).__name__ == "YFRateLimitError":
                    break
            else:
                self.actions = from_yahoo(frame, last_day(table))
                return table
        assert refusal is not None
        raise refusal

    def _pauses(self, end: float) -> Iterator[float]:
        yield 0
        for attempt in range(self.attempts - 1):
            pause = self.pause * 2**attempt
            if time.monotonic() + pause + self.timeout > end:
                return  # the last attempt's reason is more precise than a time-out
            yield pause


def normalise(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert yfinance's frame to the columns of `table.COLUMNS`.

    Takes MultiIndex columns (price, ticker) and (ticker, price), and an index with or without a time zone.

    Raises:
        ValueError: no rows.
    """
    if frame.empty:
        raise ValueError("an empty answer")
    if isinstance(frame.columns, pd.MultiIndex):
        level = next(i for i in range(frame.columns.nlevels) if "Close" in frame.columns.get_level_values(i))
        frame = frame.set_axis(frame.columns.get_level_values(level), axis="columns")
    table = frame.rename(columns=lambda name: str(name).lower().replace(" ", "_")).rename_axis("date").reset_index()
    return shaped(table)


def _refuse_fewer(symbol: Symbol, new: Actions, stored: Actions) -> None:
    """Refuse an answer that lacks splits or dividends of the past: its prices would not be adjusted for them."""
    lost = [*(stored.splits.keys() - new.splits.keys()), *(stored.dividends.keys() - new.dividends.keys())]
    if lost:
        reason = f"yahoo: an answer without {len(lost)} splits or dividends that are known ({first_five(sorted(lost))})"
        raise PricesUnavailable(symbol, [reason], f"Try again later, or {_OWN_PRICES}")


def _ask(symbol: Symbol, timeout: float) -> pd.DataFrame:
    """Call yfinance so that it raises its errors instead of logging them."""
    import yfinance
    from yfinance.data import YfData
    from yfinance.scrapers.history import PriceHistory

    # not by catch_warnings: this thread may outlive its caller, and would then restore outdated filters
    warnings.filterwarnings("ignore", module="yfinance")
    logging.getLogger("yfinance").setLevel(logging.CRITICAL + 1)  # failures are reported by our own errors
    yfinance.config.debug.hide_exceptions = False  # otherwise a network failure returns an empty frame
    _set_cookie_folder(settings().data / ".yfinance")
    session = _session(timeout)
    # Ticker would request the time zone first, cache even a failed answer, and report the stock as delisted
    prices = PriceHistory(YfData(session=session), symbol.yahoo, _ZONE[symbol.calendar], session)
    frame: pd.DataFrame = prices.history(period="max", auto_adjust=False, actions=True, timeout=timeout)
    return frame


@lru_cache(maxsize=1)
def _session(limit: float) -> Any:  # noqa: ANN401 - a curl_cffi Session, which yfinance asks for
    """One session per process, because yfinance keeps its cookies there; no request takes longer than `limit`."""
    from curl_cffi.requests import Session

    class LimitedSession(Session):  # type: ignore[type-arg]
        def request(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            """Shorten the limit: for cookies yfinance waits 30 s each."""
            return super().request(*args, **{**kwargs, "timeout": min(kwargs.get("timeout") or limit, limit)})

    return LimitedSession(impersonate="chrome")


@lru_cache(maxsize=1)
def _set_cookie_folder(folder: Path) -> None:
    """Store yfinance's cookies next to the price cache, or nowhere if that folder cannot be written."""
    import yfinance

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 16))  # a full disk still creates empty files
        yfinance.set_tz_cache_location(str(folder))
    except OSError:
        yfinance.set_tz_cache_location(os.path.join(os.devnull, "none"))


def _refusal(symbol: Symbol, error: Exception) -> PricesUnavailable | UnknownStock:
    """Convert an error of yfinance, of its HTTP library or of parsing."""
    description = str(getattr(error, "yahoo_reason", None) or "")
    if any(words in description.lower() for words in _NO_SUCH_STOCK):
        return UnknownStock(symbol, "Yahoo", symbol.yahoo, f"Check the ticker, or {_OWN_PRICES}")
    names = {cls.__name__ for cls in type(error).__mro__} | ({"DNSError"} if "resolve" in str(error).lower() else set())
    reason = next((words for name, words in _REASONS.items() if name in names), "an answer that could not be read")
    # yfinance's text for a rate limit adds nothing, and for an empty answer it guesses «possibly delisted»
    informative = not names & {"YFRateLimitError", "YFTickerMissingError"}
    detail = description or (
        " ".join(str(error).split(". See https://curl.se")[0].split())[:120] if informative else ""
    )
    return PricesUnavailable(symbol, [f"yahoo: {reason}" + (f" ({detail})" if detail else "")], _UNAVAILABLE)
