"""A file lock that child processes inherit: it is released when every process has closed the file.

This is the only module that imports fcntl. It is imported late because Windows has no fcntl.
"""

import fcntl
import os
from pathlib import Path


class TrainingLock:
    """An open lock file; a child process that inherits `descriptor` also holds the lock."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT)

    def acquire(self) -> bool:
        """Take the lock; returns False if another process holds it."""
        return _flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def wait(self) -> None:
        """Take the lock; waits while another process checks it with `is_held`."""
        _flock(self.descriptor, fcntl.LOCK_EX)

    def __enter__(self) -> "TrainingLock":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)


def is_held(file: Path) -> bool:
    """Whether a process holds this lock; writes nothing, and several processes can check at the same time."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    return True
