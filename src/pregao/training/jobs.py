"""One training at a time on this machine, in a process of its own, with progress, cancel and memory.

The right to train is a lock on a file. The training inherits the open file, so that the lock lasts as long as it does,
whatever becomes of the process that started it. A second lock, one a job, tells the living from the dead. The training
listens to a pipe from its starter: when that dies, it stops, and says so.
"""

import fcntl
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pregao.config import SourceChoices, TrainConfig, parse
from pregao.errors import InvalidChoice, NoSuchJob, TrainingRuns, refusal
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings

if TYPE_CHECKING:  # Lightning takes seconds, and the starter of a job does not need it
    from pregao.training.pipeline import Result

logger = logging.getLogger(__name__)

ENDED = ("done", "failed", "cancelled")

NICENESS = 19
"""A training leaves the processor to whoever answers clients."""

SECONDS_TO_STOP = 4
"""How long a cancelled training may close its files, before it is killed."""

KEPT = 200
"""Jobs that are remembered; older ones are forgotten when a new one starts."""

COMPOSING = threading.Lock()
"""Hydra composes one configuration a process at a time."""

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Job:
    """What is known of a training.

    Attributes:
        id: 32 hexadecimal digits.
        stock: the ticker.
        state: queued, running, done, failed or cancelled.
        created: ISO 8601, UTC.
        finished: likewise; None before the end.
        progress: 0..1.
        epoch: epochs that are done.
        epochs: the most there can be.
        train_loss: of the last epoch.
        val_loss: of the last epoch.
        result: stock, version, run_id, metrics, training_time, promoted and promotion, once it is done.
        error: why it failed or was cancelled, as a sentence.
        refusal: the name of the PregaoError that it failed with; None for another failure.
    """

    id: str
    stock: str
    state: str
    created: str
    finished: str | None = None
    progress: float = 0.0
    epoch: int = 0
    epochs: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    refusal: str | None = None

    @property
    def ended(self) -> bool:
        """Nothing will change any more."""
        return self.state in ENDED


@dataclass(frozen=True)
class Turn:
    """The right to start the one training."""

    lock: int


@dataclass
class Jobs:
    """The trainings of a folder, and those of them that this process started."""

    folder: Path = field(default_factory=lambda: settings().jobs)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The right to start a training; given back at the end of the block, unless one was started.

        Raises:
            TrainingRuns: somebody else has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / ".training", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._refusal() from None
            yield Turn(lock)
        finally:
            os.close(lock)  # a training that was started holds it too

    def start(self, turn: Turn, config: TrainConfig) -> Job:
        """Start the training, and return at once."""
        self._forget_old()
        stock = Symbol.parse(config.stock).ticker
        job = Job(uuid4().hex, stock, "queued", _now(), epochs=config.trainer.max_epochs)
        folder = self.folder / job.id
        folder.mkdir()
        (folder / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
        write(folder, job)
        (self.folder / "latest").write_text(job.id, encoding="utf-8")
        alive = os.open(folder / "alive", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            self._children[job.id] = subprocess.Popen(
                [sys.executable, "-m", "pregao.training.jobs", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(turn.lock, alive),
                start_new_session=True,  # ctrl-C in the server's terminal is the server's to pass on
            )
        finally:
            os.close(alive)
        return job

    def read(self, id: str) -> Job:
        """What is known now; a job whose process died without a word has failed.

        Raises:
            NoSuchJob: no such job is known.
        """
        folder = self._folder(id)
        job, gone = _read(folder), self.gone(id)
        if gone and not job.ended:
            job = _read(folder)  # it may have ended between the two looks
            if not job.ended:
                job = _bury(folder, job, "failed", "Its process ended without a result: it was killed, or crashed.")
        return job

    def all(self) -> list[Job]:
        """Every known job, newest first."""
        found = []
        for folder in self._folders():
            with suppress(NoSuchJob):
                found.append(self.read(folder.name))
        return sorted(found, key=lambda job: job.created, reverse=True)

    def running(self) -> Job | None:
        """The job that goes on, if it is known."""
        with suppress(OSError, NoSuchJob):
            job = self.read((self.folder / "latest").read_text(encoding="utf-8"))
            return None if job.ended else job
        return None

    def cancel(self, id: str, reason: str = "It was cancelled.") -> Job:
        """Stop a training; its run is KILLED and the served model is as it was. Takes some seconds.

        Raises:
            NoSuchJob: no such job is known.
        """
        folder = self._folder(id)
        if self.read(id).ended:
            return self.read(id)
        (folder / "reason").write_text(reason, encoding="utf-8")
        for number in (signal.SIGINT, signal.SIGKILL):
            self._signal(folder, number)
            if self._wait(id, SECONDS_TO_STOP):
                break
        job = _read(folder)
        return job if job.ended else _bury(folder, job, "cancelled", reason)

    def cancel_own(self, reason: str) -> None:
        """Stop what this process started."""
        for id in list(self._children):
            with suppress(NoSuchJob):
                self.cancel(id, reason)
                self._wait(id, SECONDS_TO_STOP)

    def _refusal(self) -> TrainingRuns:
        job = self.running()
        return TrainingRuns(job.id, job.stock) if job else TrainingRuns(None, None)

    def _folder(self, id: str) -> Path:
        folder = self.folder / id
        if not _ID.fullmatch(id) or not (folder / "job.json").is_file():
            raise NoSuchJob(id)
        return folder

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [folder for folder in self.folder.iterdir() if _ID.fullmatch(folder.name)]

    def gone(self, id: str) -> bool:
        """The training's process is gone too, and with it its hold on the next one's turn."""
        if self._alive(id):
            return False
        child = self._children.pop(id, None)
        if child is not None:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()  # it has closed its files: this takes no time
        return True

    def _alive(self, id: str) -> bool:
        lock = os.open(self._folder(id) / "alive", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _signal(self, folder: Path, number: signal.Signals) -> None:
        """Signal the training; the lock says that its number still is its own."""
        child = self._children.get(folder.name)
        if child is not None:
            child.send_signal(number)
        elif self._alive(folder.name):
            with suppress(OSError, ValueError):
                os.kill(int((folder / "pid").read_text(encoding="utf-8")), number)

    def _wait(self, id: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.gone(id):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _forget_old(self) -> None:
        folders = sorted(self._folders(), key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: max(0, len(folders) - KEPT + 1)]:
            if not self._alive(folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def configuration(
    symbol: Symbol, start: str | None, end: str | None, source: SourceChoices, overrides: Mapping[str, Any]
) -> TrainConfig:
    """What train.py would make of these choices.

    Raises:
        InvalidChoice: a key or a value that conf/ does not allow.
    """
    chosen = [f"{key}={'null' if value is None else value}" for key, value in overrides.items()]
    dates = [f"{key}='{value}'" for key, value in (("start", start), ("end", end)) if value is not None]
    try:
        with COMPOSING:
            GlobalHydra.instance().clear()  # the command that serves has composed its own configuration
            with initialize_config_dir(str(REPOSITORY / "conf"), version_base=None):
                composed = compose("train", [*chosen, f"stock={symbol}", f"source={source.name}", *dates])
    except (HydraException, OmegaConfBaseException) as error:
        raise InvalidChoice(" ".join(str(error).split("\n")[0].split())) from None
    # Not as an override: a path may hold what Hydra's grammar gives a meaning to.
    return parse(TrainConfig, composed).model_copy(update={"source": source})


def write(folder: Path, job: Job) -> None:
    """Replace what is known of a job, whole or not at all."""
    temporary = folder / f".{uuid4().hex}.tmp"
    temporary.write_text(json.dumps(_finite(asdict(job)), indent=1), encoding="utf-8")
    os.replace(temporary, folder / "job.json")


def _read(folder: Path) -> Job:
    try:
        return Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise NoSuchJob(folder.name) from None


def _bury(folder: Path, job: Job, state: str, reason: str) -> Job:
    """End a job whose process is gone, here and in MLflow."""
    job = replace(job, state=state, finished=_now(), error=reason)
    write(folder, job)
    with suppress(OSError):
        run = (folder / "run").read_text(encoding="utf-8")
        from pregao.tracking import registry as tracking

        try:
            tracking.end_run(Symbol.parse(job.stock), run, "KILLED" if state == "cancelled" else "FAILED")
        except Exception as error:  # the job's end must be told even where MLflow is out of reach
            logger.warning("MLflow was not told that the run %s ended: %s", run, error)
    return job


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    """JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Orphaned(KeyboardInterrupt):
    """The process that started this training is gone."""


class _Training:
    """The training's own side: the process that Jobs.start starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = _read(folder)
        self.written = 0.0
        self.orphaned = False

    def run(self) -> None:
        """Train, and leave a record of how it ended."""
        os.nice(NICENESS)
        (self.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)
        threading.Thread(target=self._watch_the_starter, daemon=True).start()
        try:
            self._end(state="done", progress=1.0, result=self._train())
        except _Orphaned:
            self._end(state="failed", error="The server ended while this training ran.")
        except KeyboardInterrupt:
            self._end(state="cancelled", error=self._reason())
        except BaseException as error:
            self._fail(error)

    def _interrupt(self, number: int, frame: object) -> None:
        raise _Orphaned if self.orphaned else KeyboardInterrupt

    def _watch_the_starter(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        self.orphaned = True
        os.kill(os.getpid(), signal.SIGINT)

    def _train(self) -> dict[str, Any]:
        config = parse(TrainConfig, json.loads((self.folder / "config.json").read_text(encoding="utf-8")))
        folder = settings().outputs / self.job.stock / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        (self.folder / "run").write_text(folder.name, encoding="utf-8")
        self.update(state="running", progress=0.01)
        folder.mkdir(parents=True)
        try:
            return _result(self._pipeline(config, folder))
        except Exception as error:
            if refusal(error) is not None:
                _remove(folder)
            raise

    def _pipeline(self, config: TrainConfig, folder: Path) -> "Result":
        _log_to(folder / "train.log")
        (folder / ".hydra").mkdir()
        OmegaConf.save(json.loads(config.model_dump_json()), folder / ".hydra/config.yaml")

        # Late: it takes seconds, and an interruption is heard by now.
        from pregao.training.pipeline import Pipeline

        return Pipeline(config, folder, [_progress(self)]).run()

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - Job's fields
        """Tell what is known now."""
        self.job = replace(self.job, **changes)
        write(self.folder, self.job)
        self.written = time.monotonic()

    def _end(self, **changes: Any) -> None:  # noqa: ANN401
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.update(finished=_now(), **changes)

    def _fail(self, error: BaseException) -> None:
        refused = refusal(error)
        if refused is None:
            logger.error("The training failed.", exc_info=error)
            self._end(state="failed", error="An internal error ended the training; its log tells more.")
        else:
            self._end(state="failed", error=str(refused), refusal=type(refused).__name__)

    def _reason(self) -> str:
        try:
            return (self.folder / "reason").read_text(encoding="utf-8")
        except OSError:
            return "It was interrupted."


def _progress(training: _Training) -> Any:  # noqa: ANN401 - a Callback, whose class is not imported here
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import Callback

    class JobProgress(Callback):
        """Writes down each epoch, at most five a second."""

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            done, most = trainer.current_epoch + 1, trainer.max_epochs or 1
            if time.monotonic() < training.written + 0.2 and done < most:
                return
            losses = {name: trainer.callback_metrics.get(name) for name in ("train_loss", "val_loss")}
            known = {name: loss.item() for name, loss in losses.items() if loss is not None}
            training.update(epoch=done, progress=round(0.05 + 0.85 * done / most, 3), **known)

    return JobProgress()


def _result(result: "Result") -> dict[str, Any]:
    return {
        "stock": result.stock,
        "version": result.version,
        "run_id": result.run_id,
        "metrics": result.metrics,
        "training_time": result.metrics["training_time"],
        "promoted": result.verdict.promoted,
        "promotion": result.verdict.reason,
    }


def _log_to(file: Path) -> None:
    logging.basicConfig(
        filename=file, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )


def _remove(folder: Path) -> None:
    """A refused training leaves no run folder behind."""
    logging.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it holds other runs
        folder.parent.rmdir()


if __name__ == "__main__":
    _Training(Path(sys.argv[1])).run()
    logging.shutdown()
    os._exit(0)  # torch and MLflow take a second to leave, while the next training waits for its turn
