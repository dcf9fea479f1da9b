"""Background trainings: one at a time on this machine, each in its own process, with progress, cancel and history.

The right to train is a lock on a file. The training's process inherits it, so that the lock lasts as long as that
process, even if the process that started it ends. A second lock, one per job, shows whether the job's process lives.
The training reads a pipe from its parent: when the parent dies, the training stops and records why.
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

from pregao.errors import NoSuchJob, TrainingRuns
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.training.config import TrainConfig
from pregao.training.job import Job, now

if TYPE_CHECKING:
    from pregao.training.lock import TrainingLock

logger = logging.getLogger(__name__)

SECONDS_TO_STOP = 4
"""Time that a cancelled training has to close its files, before it is killed."""

KEPT = 200
"""Jobs that are kept; older ones are deleted when a new one starts."""

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Jobs:
    """The trainings of a folder, and the processes of those that this process started."""

    folder: Path = field(default_factory=lambda: settings().jobs)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @contextmanager
    def lock(self) -> Iterator["TrainingLock"]:
        """Hold the right to start a training; released at the end of the block, unless a training was started.

        Raises:
            TrainingRuns: another training runs or is starting.
        """
        from pregao.training.lock import TrainingLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with TrainingLock(self.folder / ".training") as lock:
            if not lock.acquire():
                running = self.running()
                raise TrainingRuns(running.id, running.stock) if running else TrainingRuns(None, None)
            yield lock

    def start(self, lock: "TrainingLock", config: TrainConfig) -> Job:
        """Start the training, and return without waiting for it."""
        from pregao.training.lock import TrainingLock

        self._delete_old()
        stock = Symbol.parse(config.stock).ticker
        job = Job(uuid4().hex, stock, "queued", now(), epochs=config.trainer.max_epochs)
        folder = self.folder / job.id
        folder.mkdir()
        (folder / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
        with TrainingLock(folder / "alive") as alive:
            alive.wait()
            job.write(folder)
            self._children[job.id] = subprocess.Popen(
                [sys.executable, "-m", "pregao.training.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(lock.descriptor, alive.descriptor),
                start_new_session=True,  # ctrl-C in the server's terminal is for the server, which cancels its job
            )
        return job

    def read(self, id: str) -> Job:
        """The state now; a job whose process died without recording its end has failed.

        Raises:
            NoSuchJob: the folder has no such job.
        """
        folder = self._folder(id)
        job, gone = Job.read(folder), self.gone(id)
        if gone and not job.ended:
            job = Job.read(folder)  # it may have ended after the first reading
            if not job.ended:
                job = mark_dead(folder, job, "failed", "Its process ended without a result: it was killed, or crashed.")
        return job

    def all(self) -> list[Job]:
        """All jobs, newest first."""
        found = []
        for folder in self._folders():
            with suppress(NoSuchJob):
                found.append(self.read(folder.name))
        return sorted(found, key=lambda job: job.created, reverse=True)

    def running(self) -> Job | None:
        """The job that has not ended, if there is one."""
        with suppress(OSError, NoSuchJob):
            alive = (self.read(folder.name) for folder in self._folders() if self._alive(folder))
            return next((job for job in alive if not job.ended), None)
        return None

    def cancel(self, id: str, reason: str = "It was cancelled.") -> Job:
        """Stop a training; its run is KILLED and the served model stays the same. Takes some seconds.

        Raises:
            NoSuchJob: the folder has no such job.
        """
        folder = self._folder(id)
        job = self.read(id)
        if job.ended:
            return job
        (folder / "reason").write_text(reason, encoding="utf-8")
        for number in (signal.SIGINT, signal.SIGKILL):
            self._signal(folder, number)
            if self._wait(id, SECONDS_TO_STOP):
                break
        job = Job.read(folder)
        return job if job.ended else mark_dead(folder, job, "cancelled", reason)

    def cancel_own(self, reason: str) -> None:
        """Stop the trainings that this process started."""
        for id in list(self._children):
            with suppress(NoSuchJob):
                self.cancel(id, reason)
                self._wait(id, SECONDS_TO_STOP)

    def gone(self, id: str) -> bool:
        """Whether the training's process has ended, and no longer holds the lock that the next training needs."""
        if self._alive(self._folder(id)):
            return False
        child = self._children.pop(id, None)
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()  # it has closed its files: this takes no time
        return True

    def _folder(self, id: str) -> Path:
        folder = self.folder / id
        if not _ID.fullmatch(id) or not (folder / "job.json").is_file():
            raise NoSuchJob(id)
        return folder

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [folder for folder in self.folder.iterdir() if _ID.fullmatch(folder.name)]

    def _alive(self, folder: Path) -> bool:
        from pregao.training.lock import TrainingLock

        with TrainingLock(folder / "alive") as lock:
            return lock.is_held()

    def _signal(self, folder: Path, number: signal.Signals) -> None:
        child = self._children.get(folder.name)
        if child is not None:
            child.send_signal(number)
        elif self._alive(folder):  # while it holds its lock, no other process has its number
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
        folders = sorted(self._folders(), key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: max(0, len(folders) - KEPT + 1)]:
            if not self._alive(folder):
                shutil.rmtree(folder, ignore_errors=True)


def mark_dead(folder: Path, job: Job, state: str, reason: str) -> Job:
    """Record the end of a job whose process has died, in its folder and in MLflow."""
    job = replace(job, state=state, finished=now(), error=reason)
    job.write(folder)
    with suppress(OSError):
        run = (folder / "run").read_text(encoding="utf-8")
        from pregao.tracking import runs

        try:
            runs.end_run(Symbol.parse(job.stock), run, "KILLED" if state == "cancelled" else "FAILED")
        except Exception as error:  # the job has ended even where MLflow is out of reach
            logger.warning("The end of the run %s was not recorded in MLflow: %s", run, error)
    return job
