"""Background trainings: one at a time on this machine, each in a separate process.

A file lock allows one training at a time. The training's process inherits the lock and holds it until it ends, even if
the process that started it ends first. A second lock per job, taken before the job can be seen, shows whether the job's
process is alive. A job with a file `reason` was cancelled: its process and every reader record its end as `cancelled`.
The training reads a pipe from its parent: when the parent dies, the pipe closes and the training stops.
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pregao.errors import NoSuchJob, TrainingRuns, refused_cause
from pregao.settings import settings
from pregao.training.checked import CheckedTraining
from pregao.training.job import RESERVE, RESERVED_BYTES, Job, now

if TYPE_CHECKING:
    from pregao.training.lock import TrainingLock

logger = logging.getLogger(__name__)

SECONDS_TO_STOP = 4
"""Time between SIGINT and SIGKILL for a cancelled training."""

KEPT = 200
"""Maximum number of jobs in the folder; starting a job deletes the oldest ones."""

REASON = "reason"
"""A file in the folder of a cancelled job: why it was cancelled."""

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Jobs:
    """The jobs in a folder, and the child processes that this process started."""

    folder: Path = field(default_factory=lambda: settings().jobs)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @contextmanager
    def lock(self) -> Iterator["TrainingLock"]:
        """Hold the training lock for the block; a training started in the block keeps it after the block.

        Raises:
            TrainingRuns: another training is running or starting.
            StorageError: the disk is full or read-only.
        """
        from pregao.training.lock import TrainingLock

        with _refused_by_the_disk():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = TrainingLock(self.folder / ".training")
        with lock:
            if not lock.acquire():
                running = self.running()
                raise TrainingRuns(running.id, running.stock) if running else TrainingRuns(None, None)
            yield lock

    def start(self, lock: "TrainingLock", training: CheckedTraining) -> Job:
        """Start the training in a new process and return immediately.

        Raises:
            StorageError: the disk is full or read-only; no job was created.
        """
        from pregao.training.lock import TrainingLock

        self._delete_old()
        job = Job(uuid4().hex, training.stock, "queued", now(), epochs=training.epochs)
        folder = self.folder / job.id
        with _refused_by_the_disk(folder):
            folder.mkdir()
            (folder / "config.json").write_text(training.config, encoding="utf-8")
            (folder / RESERVE).write_bytes(bytes(RESERVED_BYTES))
            with TrainingLock(folder / "alive") as alive:
                alive.wait()
                job.write(folder)
                self._children[job.id] = subprocess.Popen(
                    [sys.executable, "-m", "pregao.training.worker", str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(lock.descriptor, alive.descriptor),
                    start_new_session=True,  # ctrl-C in the terminal is the server's, which cancels its job
                )
        return job

    def read(self, id: str) -> Job:
        """The current state; a job whose process died without a result is marked as failed, or as cancelled.

        Raises:
            NoSuchJob: the folder does not have this job.
        """
        folder = self._folder(id)
        job, gone = Job.read(folder), self.gone(id)
        if gone and not job.ended:
            job = Job.read(folder)  # it may have ended after the first read
            if not job.ended:
                job = mark_dead(folder, job)
        return job

    def all(self) -> list[Job]:
        """All jobs, newest first."""
        found = []
        for folder in self.folders():
            with suppress(NoSuchJob):
                found.append(self.read(folder.name))
        return sorted(found, key=lambda job: job.created, reverse=True)

    def running(self) -> Job | None:
        """The job that has not ended, or None."""
        with suppress(OSError, NoSuchJob):
            alive = (self.read(folder.name) for folder in self.folders() if self.alive(folder))
            return next((job for job in alive if not job.ended), None)
        return None

    def cancel(self, id: str, reason: str = "It was cancelled.") -> Job:
        """Stop a training; its MLflow run becomes KILLED and the served model does not change. Takes some seconds.

        Raises:
            NoSuchJob: the folder does not have this job.
        """
        folder = self._folder(id)
        job = self.read(id)
        if job.ended:
            return job
        with suppress(OSError):  # on a full disk the file is empty, and the job is cancelled all the same
            (folder / REASON).write_text(reason, encoding="utf-8")
        for number in (signal.SIGINT, signal.SIGKILL):
            self._signal(folder, number)
            if self._wait(id, SECONDS_TO_STOP):
                break
        job = Job.read(folder)
        return job if job.ended else mark_dead(folder, job)

    def cancel_own(self, reason: str) -> None:
        """Stop the trainings that this process started."""
        for id in list(self._children):
            with suppress(NoSuchJob):
                self.cancel(id, reason)
                self._wait(id, SECONDS_TO_STOP)

    def gone(self, id: str) -> bool:
        """Whether the training's process has ended and released its locks."""
        if self.alive(self._folder(id)):
            return False
        child = self._children.pop(id, None)
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()  # returns immediately: the process has released its locks
        return True

    def _folder(self, id: str) -> Path:
        folder = self.folder / id
        if not _ID.fullmatch(id) or not (folder / "job.json").is_file():
            raise NoSuchJob(id)
        return folder

    def folders(self) -> list[Path]:
        """The folders of jobs, damaged ones included."""
        if not self.folder.is_dir():
            return []
        return [folder for folder in self.folder.iterdir() if _ID.fullmatch(folder.name)]

    def alive(self, folder: Path) -> bool:
        """Whether the process of the job in this folder runs."""
        from pregao.training.lock import is_held

        return is_held(folder / "alive")

    def _signal(self, folder: Path, number: signal.Signals) -> None:
        child = self._children.get(folder.name)
        if child is not None:
            child.send_signal(number)
        elif self.alive(folder):  # while it holds its lock, its process id is not reused
            with suppress(OSError, ValueError):
                os.kill(int((folder / "pid").read_text(encoding="utf-8")), number)

    def _wait(self, id: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.gone(id):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _delete_old(self) -> None:
        folders = sorted(self.folders(), key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: max(0, len(folders) - KEPT + 1)]:
            if not self.alive(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _refused_by_the_disk(folder: Path | None = None) -> Iterator[None]:
    """Raise StorageError for a full or read-only disk, without this folder."""
    try:
        yield
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise refused_cause(error) or error from error


def cancelled_because(folder: Path) -> str | None:
    """Why a job was cancelled; None if it was not."""
    try:
        return (folder / REASON).read_text(encoding="utf-8") or "It was cancelled."
    except FileNotFoundError:
        return None


def mark_dead(folder: Path, job: Job) -> Job:
    """Record in the job's folder and in MLflow that its process has died."""
    reason = cancelled_because(folder)
    if reason is None:
        job = replace(job, state="failed", error="Its process ended without a result: it was killed or crashed.")
    else:
        job = replace(job, state="cancelled", error=reason)
    job = replace(job, finished=now())
    try:
        job.write(folder)
    except OSError as error:
        refused = refused_cause(error)
        if refused is None:
            raise
        return job if reason else replace(job, error=str(refused), refusal=type(refused).__name__)
    _end_run(folder, job)
    return job


def _end_run(folder: Path, job: Job) -> None:
    """Close the MLflow run of a dead job, in a process: MLflow's client would stay in this one's memory."""
    with suppress(OSError):
        run = (folder / "run").read_text(encoding="utf-8")
        status = "KILLED" if job.state == "cancelled" else "FAILED"
        command = [sys.executable, "-m", "pregao.tracking.runs", job.stock, run, status]
        if subprocess.run(command, capture_output=True, check=False).returncode:  # the job has ended all the same
            logger.warning("The end of the run %s was not recorded in MLflow.", run)
