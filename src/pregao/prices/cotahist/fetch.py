"""From B3's public address to a complete, checked file: resumed where it broke off, never taken over half or wrong."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import parser

logger = logging.getLogger(__name__)

_PIECE = 1 << 20  # bytes
_SECONDS_BETWEEN_NEWS = 10
_ZIP = b"PK\x03\x04"


class Unfetched(Exception):
    """Why a file could not be had, in a few words; `passing` where another attempt may succeed."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class Fetcher:
    """Asks for one file at a time.

    Attributes:
        timeout: seconds in which something must come, be it the first byte or the next.
        deadline: seconds for a whole file; a year has about 100 MB.
        attempts: how often; each goes on where the one before broke off.
        pause: seconds before the second attempt; doubles with each.
    """

    timeout: float = 20
    deadline: float = 1800
    attempts: int = 3
    pause: float = 2

    def fetch(self, url: str, target: Path, year: int) -> bool:
        """Make `target` what the address has now; False where it is that already.

        Raises:
            Unfetched: `target` is as it was; what has come so far is kept beside it, for the next call to go on with.
            OSError: the disk.
        """
        end = time.monotonic() + self.deadline
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(url, target, year, end)
            except Unfetched as error:
                pause = self.pause * 2 ** (attempt - 1)
                if not error.passing or attempt == self.attempts or time.monotonic() + pause > end:
                    raise
                logger.warning("%s: %s; asking again.", target.name, error)
                time.sleep(pause)
        raise AssertionError("attempts is at least 1")

    def _attempt(self, url: str, target: Path, year: int, end: float) -> bool:
        begun = _begun(target)
        with _refusals(self.timeout), _asked(url, target, begun, self.timeout) as answer:
            if answer is None:
                return False
            part = _part(target, answer)
            resumed = answer.status == 206 and part == begun
            first = b"" if resumed else _beginning(answer)
            if not resumed:
                for old in (begun, part):
                    if old is not None:
                        old.unlink(missing_ok=True)
            with part.open("ab" if resumed else "wb") as file:
                file.write(first)
                self._copy(answer, file, target.name, end)
                os.fsync(file.fileno())
        _check(part, year)
        modified = int(part.name.split(".")[-2])
        if modified:  # the next question is «newer than this?»
            os.utime(part, (modified, modified))
        os.replace(part, target)
        return True

    def _copy(self, answer: HTTPResponse, file: IO[bytes], name: str, end: float) -> None:
        had = file.tell()
        total = had + (answer.length or 0)  # what is left of its Content-Length
        resumed = f", {had / 1e6:.1f} of them here already" if had > len(_ZIP) else ""
        logger.info("%s: fetching %.1f MB from B3%s.", name, total / 1e6, resumed)
        told = time.monotonic()
        while piece := _piece(answer, self.timeout):
            file.write(piece)
            now = time.monotonic()
            if now > end:
                raise Unfetched(
                    f"{file.tell():,} of {total:,} bytes came in {self.deadline:g} s; the next call goes on"
                )
            if now - told > _SECONDS_BETWEEN_NEWS:
                logger.info("%s: %.0f of %.0f MB", name, file.tell() / 1e6, total / 1e6)
                told = now
        if file.tell() < total:
            raise Unfetched(f"it broke off after {file.tell():,} of {total:,} bytes", passing=True)


def _piece(answer: HTTPResponse, timeout: float) -> bytes:
    try:
        return answer.read1(_PIECE)
    except TimeoutError:
        raise Unfetched(f"it stopped in the middle, and nothing came for {timeout:g} s", passing=True) from None


@contextmanager
def _asked(url: str, target: Path, begun: Path | None, timeout: float) -> Iterator[HTTPResponse | None]:
    """The answer to «the rest of what has begun to come», or «anything newer than this file?»; None for «no»."""
    request = Request(url, headers={"User-Agent": "pregao"})
    if begun is not None:
        modified = int(begun.name.split(".")[-2])
        request.add_header("Range", f"bytes={begun.stat().st_size}-")
        request.add_header("If-Range", formatdate(modified, usegmt=True))
    elif target.exists():
        request.add_header("If-Modified-Since", formatdate(target.stat().st_mtime, usegmt=True))
    try:
        # The address is the operator's own setting, and no part of it comes from a client.
        with urlopen(request, timeout=timeout) as answer:  # nosec B310
            yield answer
    except HTTPError as error:
        error.close()
        if error.code == 416 and begun is not None:
            begun.unlink()
            raise Unfetched("it has less than what had come before", passing=True) from None
        if error.code != 304:
            raise
        yield None


@contextmanager
def _refusals(timeout: float) -> Iterator[None]:
    """Turn what the network does into a few words."""
    try:
        yield
    except HTTPError as error:
        reason = "it has no such file (HTTP 404)" if error.code == 404 else f"it answers HTTP {error.code}"
        raise Unfetched(reason, passing=error.code >= 500 or error.code == 429) from None
    except TimeoutError:
        raise Unfetched(f"no answer in {timeout:g} s") from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise Unfetched(f"no answer in {timeout:g} s") from None
        raise Unfetched(f"no connection ({error.reason})", passing=True) from None
    except (HTTPException, ConnectionError) as error:
        raise Unfetched(f"the connection broke ({type(error).__name__})", passing=True) from None


def _begun(target: Path) -> Path | None:
    """What an earlier call has left; its name has the file's time of change at B3, so that only its rest is joined."""
    parts = sorted(target.parent.glob(f"{target.name}.*.part"))
    known = [part for part in parts if part.name.split(".")[-2] not in ("", "0") and part.stat().st_size]
    return known[0] if known else None


def _part(target: Path, answer: HTTPResponse) -> Path:
    modified = 0
    with suppress(TypeError, ValueError):
        modified = int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
    return target.with_name(f"{target.name}.{modified}.part")


def _beginning(answer: HTTPResponse) -> bytes:
    """The first bytes, once they are those of a zip."""
    first = answer.read(len(_ZIP))
    if first != _ZIP:
        kind = answer.headers.get_content_type()
        what = f"a web page ({kind})" if kind == "text/html" or first[:1] == b"<" else f"{first!r} ({kind})"
        raise Unfetched(f"it answers with {what} and not with a zip")
    return first


def _check(part: Path, year: int) -> None:
    """Hold what has come against its own trailer."""
    try:
        quotes = parser.read(part)
        if quotes.year != year:
            raise Unfetched(f"it sends the year {quotes.year}")
    except BadQuotesFile as error:
        part.unlink()
        raise Unfetched(f"what it sends cannot be used: {error.reason}") from None
    except Unfetched:
        part.unlink()
        raise
