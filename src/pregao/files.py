"""Locks between processes, atomic writes, deletion, JSON without NaN, and calls with a time limit."""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import EACCES, EPERM, EROFS
from numbers import Real
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar
from uuid import uuid4

from filelock import FileLock

ALEMBIC = Lock()
"""Held while alembic changes tables, MLflow's included: alembic's context is one per process."""

T = TypeVar("T")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the exclusive lock of a file, between processes and between threads; wait for it without a limit.

    The file and its folder are created. On a read-only disk the block runs without the lock: nothing can change there,
    and models must be readable from read-only folders.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, poll_interval=0.01)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in (EACCES, EPERM, EROFS):
            raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder; the end of the block renames it to `path`.

    So a reader never sees a partial file, even after a crash. The folder is created; an OSError leaves the previous
    file unchanged and no temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file instead of deleting it, and return the new path."""
    renamed = path.with_name(f"{path.stem}.corrupt-{datetime.now():%Y%m%dT%H%M%S}-{uuid4().hex[:6]}")
    os.replace(path, renamed)
    return renamed


def remove_folder(folder: Path, root: Path) -> None:
    """Delete a folder with its contents, and then its empty parents below `root`."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the first parent that is not empty
        for parent in folder.parents:
            if root not in parent.parents:
                return
            parent.rmdir()


def or_null(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value, with None for NaN and infinities, also inside mappings: JSON has neither."""
    if isinstance(value, Mapping):
        return {key: or_null(item) for key, item in value.items()}
    return None if isinstance(value, Real) and not math.isfinite(value) else value


def in_background(work: Callable[[], T]) -> Future[T]:
    """Start a call that may hang, such as a name resolution, in a daemon thread; return its future.

    `in_background(work).result(seconds)` is a call with a time limit: it raises TimeoutError, while the thread
    continues until the call returns or the program ends. `done()` is False while it runs.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # re-raised in the waiting thread
            future.set_exception(error)

    Thread(target=run, name=getattr(work, "__name__", "background"), daemon=True).start()
    return future
