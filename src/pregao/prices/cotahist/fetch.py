"""Download a file from B3's public address; check it before it replaces an older one."""

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import parser

logger = logging.getLogger(__name__)

_PIECE = 1 << 20  # bytes


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
        part = target.with_name(f"{target.name}.part")
        try:
            # The address is a setting of the operator; clients cannot change it.
            with urlopen(_request(url, target, part), timeout=self.timeout) as answer:  # nosec B310
                self._receive(answer, part, end)
        except HTTPError as error:
            error.close()
            if error.code == 304:
                return False
            if error.code == 416:  # the part is longer than the file
                part.unlink()
            reason = "no such file (HTTP 404)" if error.code == 404 else f"HTTP {error.code}"
            raise FetchFailed(reason, transient=error.code >= 500 or error.code in (416, 429)) from None
        except (TimeoutError, URLError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise FetchFailed(f"no answer in {self.timeout:g} s") from None
            raise FetchFailed(f"no connection ({cause})", transient=True) from None
        except (HTTPException, ConnectionError) as error:
            raise FetchFailed(f"the connection broke ({type(error).__name__})", transient=True) from None
        _check(part, year)
        os.replace(part, target)
        return True

    def _receive(self, answer: HTTPResponse, part: Path, end: float) -> None:
        """Write the answer to `part`, whose modification time becomes the file's at B3: `_request` sends it."""
        resumed = answer.status == 206
        first = b"" if resumed else answer.read(len(parser.ZIP))
        if not resumed and first != parser.ZIP:
            raise FetchFailed(f"the answer is {_kind(answer, first)}, not a zip")
        with part.open("ab" if resumed else "wb") as file:
            file.write(first)
            total = file.tell() + (answer.length or 0)
            logger.info("%s: downloading %.1f of %.1f MB.", part.stem, (answer.length or 0) / 1e6, total / 1e6)
            try:
                while piece := answer.read1(_PIECE):
                    file.write(piece)
                    if time.monotonic() > end:
                        got = f"{file.tell():,} of {total:,} bytes in {self.deadline:g} s"
                        raise FetchFailed(f"received only {got}; the next call resumes")
                if file.tell() < total:
                    raise FetchFailed(f"the transfer ended after {file.tell():,} of {total:,} bytes", transient=True)
            except TimeoutError:
                reason = f"the transfer stopped: no data for {self.timeout:g} s"
                raise FetchFailed(reason, transient=True) from None
            finally:
                file.flush()
                os.fsync(file.fileno())
                with suppress(TypeError, ValueError):  # without the time the next request gets the whole file
                    modified = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
                    os.utime(part, (modified, modified))


def _request(url: str, target: Path, part: Path) -> Request:
    """Request the rest of a partly received file, or a newer file than `target`."""
    request = Request(url, headers={"User-Agent": "pregao"})
    if part.exists() and part.stat().st_size:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", formatdate(part.stat().st_mtime, usegmt=True))
    elif target.exists():
        request.add_header("If-Modified-Since", formatdate(target.stat().st_mtime, usegmt=True))
    return request


def _kind(answer: HTTPResponse, first: bytes) -> str:
    kind = answer.headers.get_content_type()
    is_page = kind == "text/html" or first.startswith(b"<")
    return f"a web page ({kind})" if is_page else f"{first!r} ({kind})"


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
