"""Fetch a file from B3's public address: resume a broken transfer, accept nothing incomplete or wrong."""

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
_SECONDS_BETWEEN_LOG_LINES = 10


class Unfetched(Exception):
    """Why a file could not be fetched, in a few words; `passing` if another attempt may succeed."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class Fetcher:
    """Fetches one file at a time.

    Attributes:
        timeout: seconds until the first byte, and between two reads.
        deadline: seconds for a whole file; a year has about 100 MB.
        attempts: at most; each resumes the one before.
        pause: seconds before the second attempt; doubles with each.
    """

    timeout: float = 20
    deadline: float = 1800
    attempts: int = 3
    pause: float = 2

    def fetch(self, url: str, target: Path, year: int) -> bool:
        """Make `target` the file that the address has now; return False if it is that file already.

        Raises:
            Unfetched: `target` is unchanged; the received part is kept next to it, for the next call to resume.
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
        former = _former_part(target)
        with _refusals(self.timeout), _request(url, target, former, self.timeout) as answer:
            if answer is None:
                return False
            part = _part(target, answer)
            resumed = answer.status == 206 and part == former
            first = b"" if resumed else _first_bytes(answer)
            if former is not None and not resumed:
                former.unlink()
            with part.open("ab" if resumed else "wb") as file:
                file.write(first)
                self._copy(answer, file, target.name, end)
                os.fsync(file.fileno())
        _check(part, year)
        if modified := _modified(part):  # the next request asks for a newer file than this
            os.utime(part, (modified, modified))
        os.replace(part, target)
        return True

    def _copy(self, answer: HTTPResponse, file: IO[bytes], name: str, end: float) -> None:
        had = file.tell()
        total = had + (answer.length or 0)  # what is left of its Content-Length
        resumed = f", {had / 1e6:.1f} of them here already" if had > len(parser.ZIP) else ""
        logger.info("%s: fetching %.1f MB from B3%s.", name, total / 1e6, resumed)
        logged = time.monotonic()
        while piece := self._read(answer):
            file.write(piece)
            now = time.monotonic()
            if now > end:
                raise Unfetched(
                    f"{file.tell():,} of {total:,} bytes came in {self.deadline:g} s; the next call goes on"
                )
            if now - logged > _SECONDS_BETWEEN_LOG_LINES:
                logger.info("%s: %.0f of %.0f MB", name, file.tell() / 1e6, total / 1e6)
                logged = now
        if file.tell() < total:
            raise Unfetched(f"it broke off after {file.tell():,} of {total:,} bytes", passing=True)

    def _read(self, answer: HTTPResponse) -> bytes:
        try:
            return answer.read1(_PIECE)
        except TimeoutError:
            reason = f"it stopped in the middle, and nothing came for {self.timeout:g} s"
            raise Unfetched(reason, passing=True) from None


@contextmanager
def _request(url: str, target: Path, former: Path | None, timeout: float) -> Iterator[HTTPResponse | None]:
    """Ask for the rest of a partly received file, or for a newer one than `target`; None if there is no newer one."""
    request = Request(url, headers={"User-Agent": "pregao"})
    if former is not None:
        request.add_header("Range", f"bytes={former.stat().st_size}-")
        request.add_header("If-Range", formatdate(_modified(former), usegmt=True))
    elif target.exists():
        request.add_header("If-Modified-Since", formatdate(target.stat().st_mtime, usegmt=True))
    try:
        # The address is the operator's own setting, and no part of it comes from a client.
        with urlopen(request, timeout=timeout) as answer:  # nosec B310
            yield answer
    except HTTPError as error:
        error.close()
        if error.code == 416 and former is not None:
            former.unlink()
            raise Unfetched("it has less than what had come before", passing=True) from None
        if error.code != 304:
            raise
        yield None


@contextmanager
def _refusals(timeout: float) -> Iterator[None]:
    """Raise Unfetched for the errors of HTTP and of the network."""
    try:
        yield
    except HTTPError as error:
        reason = "it has no such file (HTTP 404)" if error.code == 404 else f"it answers HTTP {error.code}"
        raise Unfetched(reason, passing=error.code >= 500 or error.code == 429) from None
    except (TimeoutError, URLError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise Unfetched(f"no answer in {timeout:g} s") from None
        raise Unfetched(f"no connection ({cause})", passing=True) from None
    except (HTTPException, ConnectionError) as error:
        raise Unfetched(f"the connection broke ({type(error).__name__})", passing=True) from None


def _former_part(target: Path) -> Path | None:
    """The part that an earlier call has left; without its time of change at B3, its rest cannot be asked for."""
    parts = sorted(target.parent.glob(f"{target.name}.*.part"))
    return next((part for part in parts if _modified(part) and part.stat().st_size), None)


def _modified(part: Path) -> int:
    """The file's time of change at B3, which the part's name holds; 0 if unknown."""
    return int(part.name.split(".")[-2] or 0)


def _part(target: Path, answer: HTTPResponse) -> Path:
    modified = 0
    with suppress(TypeError, ValueError):
        modified = int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
    return target.with_name(f"{target.name}.{modified}.part")


def _first_bytes(answer: HTTPResponse) -> bytes:
    """Read the first bytes, which must be those of a zip."""
    first = answer.read(len(parser.ZIP))
    if first != parser.ZIP:
        kind = answer.headers.get_content_type()
        what = f"a web page ({kind})" if kind == "text/html" or first[:1] == b"<" else f"{first!r} ({kind})"
        raise Unfetched(f"it answers with {what} and not with a zip")
    return first


def _check(part: Path, year: int) -> None:
    """Read the whole file, and delete it if it cannot be used."""
    try:
        found = parser.read(part).year
    except BadQuotesFile as error:
        part.unlink()
        raise Unfetched(f"what it sends cannot be used: {error.reason}") from None
    if found != year:
        part.unlink()
        raise Unfetched(f"it sends the year {found}")
