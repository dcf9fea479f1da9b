"""A lock that a child process inherits: it lasts until every process that has its file open has closed it.

The only module that imports fcntl, which Windows does not have. It is imported late, so that the rest imports there.
"""

import fcntl
import os
from pathlib import Path


class TrainingLock:
    """An open lock file; a child process that inherits `descriptor` holds the lock too."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT)

    def acquire(self) -> bool:
        """Take the lock; False where another process holds it."""
        return self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def wait(self) -> None:
        """Take the lock as soon as no other process looks at it."""
        self._flock(fcntl.LOCK_EX)

    def is_held(self) -> bool:
        """Whether another process holds the lock; several processes can ask at a time."""
        return not self._flock(fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _flock(self, operation: int) -> bool:
        try:
            fcntl.flock(self.descriptor, operation)
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> "TrainingLock":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)
