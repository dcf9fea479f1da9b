"""Download a file from B3's public address: resumes interrupted transfers, and checks the file before it is used."""

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


class FetchFailed(Exception):
    """The reason why a download failed; `transient` if another attempt may succeed."""

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


@dataclass(frozen=True)
class Fetcher:
    """Downloads one file.

    Attributes:
        timeout: seconds until the first byte, and between two reads.
        deadline: seconds for a whole file; a year has about 100 MB.
        attempts: at most; each resumes the previous one.
        pause: seconds before the second attempt; doubles with each.
    """

    timeout: float = 20
    deadline: float = 1800
    attempts: int = 3
    pause: float = 2

    def fetch(self, url: str, target: Path, year: int) -> bool:
        """Download a newer file than `target`, if there is one; return whether there was.

        Raises:
            FetchFailed: `target` is unchanged; the received part stays next to it, for the next call to resume.
            OSError: the disk is full or not writable.
        """
        end = time.monotonic() + self.deadline
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(url, target, year, end)
            except FetchFailed as error:
                pause = self.pause * 2 ** (attempt - 1)
                if not error.transient or attempt == self.attempts or time.monotonic() + pause > end:
                    raise
                logger.warning("%s: %s; trying again.", target.name, error)
                time.sleep(pause)
        raise AssertionError("attempts is at least 1")

    def _attempt(self, url: str, target: Path, year: int, end: float) -> bool:
        previous = _previous_part(target)
        with _converted_errors(self.timeout), _request(url, target, previous, self.timeout) as answer:
            if answer is None:
                return False
            part = _part(target, answer)
            resumed = answer.status == 206 and part == previous
            first = b"" if resumed else _first_bytes(answer)
            if previous is not None and not resumed:
                previous.unlink()
            with part.open("ab" if resumed else "wb") as file:
                file.write(first)
                self._copy(answer, file, target.name, end)
                os.fsync(file.fileno())
        _check(part, year)
        if modified := _modified(part):  # for If-Modified-Since in the next request
            os.utime(part, (modified, modified))
        os.replace(part, target)
        return True

    def _copy(self, answer: HTTPResponse, file: IO[bytes], name: str, end: float) -> None:
        had = file.tell()
        total = had + (answer.length or 0)  # the bytes not yet read
        resumed = f", {had / 1e6:.1f} MB of it already here" if had > len(parser.ZIP) else ""
        logger.info("%s: downloading %.1f MB from B3%s.", name, total / 1e6, resumed)
        logged = time.monotonic()
        while piece := self._read(answer):
            file.write(piece)
            now = time.monotonic()
            if now > end:
                raise FetchFailed(
                    f"received only {file.tell():,} of {total:,} bytes in {self.deadline:g} s; the next call resumes"
                )
            if now - logged > _SECONDS_BETWEEN_LOG_LINES:
                logger.info("%s: %.0f of %.0f MB", name, file.tell() / 1e6, total / 1e6)
                logged = now
        if file.tell() < total:
            raise FetchFailed(f"the transfer ended after {file.tell():,} of {total:,} bytes", transient=True)

    def _read(self, answer: HTTPResponse) -> bytes:
        try:
            return answer.read1(_PIECE)
        except TimeoutError:
            reason = f"the transfer stopped: no data for {self.timeout:g} s"
            raise FetchFailed(reason, transient=True) from None


@contextmanager
def _request(url: str, target: Path, previous: Path | None, timeout: float) -> Iterator[HTTPResponse | None]:
    """Request the rest of a partly received file, or a newer file than `target`; None without a newer one."""
    request = Request(url, headers={"User-Agent": "pregao"})
    if previous is not None:
        request.add_header("Range", f"bytes={previous.stat().st_size}-")
        request.add_header("If-Range", formatdate(_modified(previous), usegmt=True))
    elif target.exists():
        request.add_header("If-Modified-Since", formatdate(target.stat().st_mtime, usegmt=True))
    try:
        # The address is a setting of the operator; clients cannot change it.
        with urlopen(request, timeout=timeout) as answer:  # nosec B310
            yield answer
    except HTTPError as error:
        error.close()
        if error.code == 416 and previous is not None:
            previous.unlink()
            raise FetchFailed("the file is shorter than the part received before", transient=True) from None
        if error.code != 304:
            raise
        yield None


@contextmanager
def _converted_errors(timeout: float) -> Iterator[None]:
    """Raise FetchFailed for the errors of HTTP and of the network."""
    try:
        yield
    except HTTPError as error:
        reason = "no such file (HTTP 404)" if error.code == 404 else f"HTTP {error.code}"
        raise FetchFailed(reason, transient=error.code >= 500 or error.code == 429) from None
    except (TimeoutError, URLError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise FetchFailed(f"no answer in {timeout:g} s") from None
        raise FetchFailed(f"no connection ({cause})", transient=True) from None
    except (HTTPException, ConnectionError) as error:
        raise FetchFailed(f"the connection broke ({type(error).__name__})", transient=True) from None


def _previous_part(target: Path) -> Path | None:
    """The part received by an earlier call, if it can be resumed: its modification time at B3 must be known."""
    parts = sorted(target.parent.glob(f"{target.name}.*.part"))
    return next((part for part in parts if _modified(part) and part.stat().st_size), None)


def _modified(part: Path) -> int:
    """The file's modification time at B3, from the part's name; 0 if unknown."""
    return int(part.name.split(".")[-2] or 0)


def _part(target: Path, answer: HTTPResponse) -> Path:
    modified = 0
    with suppress(TypeError, ValueError):
        modified = int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
    return target.with_name(f"{target.name}.{modified}.part")


def _first_bytes(answer: HTTPResponse) -> bytes:
    """Read the first bytes, and check that they are a zip's."""
    first = answer.read(len(parser.ZIP))
    if first != parser.ZIP:
        kind = answer.headers.get_content_type()
        what = f"a web page ({kind})" if kind == "text/html" or first[:1] == b"<" else f"{first!r} ({kind})"
        raise FetchFailed(f"the answer is {what}, not a zip")
    return first


def _check(part: Path, year: int) -> None:
    """Parse the whole file, and delete it if it cannot be used."""
    try:
        found = parser.read(part).year
    except BadQuotesFile as error:
        if not isinstance(error.__cause__, OSError):
            part.unlink()
        raise FetchFailed(f"the received file cannot be used: {error.reason}") from None
    if found != year:
        part.unlink()
        raise FetchFailed(f"the received file is of the year {found}")
