"""The process of a background training, started by Jobs.start: `python -m pregao.training.worker FOLDER`."""

import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from pregao.config import parse
from pregao.errors import refusal
from pregao.files import remove_folder
from pregao.settings import settings
from pregao.training.config import TrainConfig
from pregao.training.job import RESERVE, Job, now
from pregao.training.jobs import cancelled_because
from pregao.training.limits import enforced

if TYPE_CHECKING:
    from pregao.training.pipeline import Result

logger = logging.getLogger(__name__)

NICENESS = 19
"""The lowest priority, so that the server answers clients first."""

SECONDS_BETWEEN_UPDATES = 0.2


class Worker:
    """Runs the training of a job, and records its progress and its end in the job's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = Job.read(folder)
        self.updated = 0.0
        self.parent_died = False

    def run(self) -> None:
        """Train, and record how it ended."""
        os.nice(NICENESS)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)
        try:
            threading.Thread(target=self._watch_parent, daemon=True).start()
            (self.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
            if cancelled_because(self.folder) is not None:  # before the process id was known
                raise KeyboardInterrupt
            self._end(state="done", progress=1.0, result=self._train())
        except BaseException as error:
            self._fail(error)

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - Job's fields
        """Change these fields of the job and write its file."""
        self.job = replace(self.job, **changes)
        self.job.write(self.folder)
        self.updated = time.monotonic()

    def _interrupt(self, number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def _watch_parent(self) -> None:
        while os.read(sys.stdin.fileno(), 1):  # the parent writes nothing; the pipe closes when it dies
            pass
        self.parent_died = True
        os.kill(os.getpid(), signal.SIGINT)

    def _train(self) -> dict[str, Any]:
        config = parse(TrainConfig, json.loads((self.folder / "config.json").read_text(encoding="utf-8")))
        folder = settings().outputs / self.job.stock / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        (self.folder / "run").write_text(folder.name, encoding="utf-8")
        self.update(state="running", progress=0.01)
        folder.mkdir(parents=True)
        try:
            with enforced(config.limits):
                return _result(self._pipeline(config, folder))
        except Exception as error:
            if refusal(error) is not None:
                logging.shutdown()
                remove_folder(folder, settings().outputs)
            raise

    def _pipeline(self, config: TrainConfig, folder: Path) -> "Result":
        _log_to(folder / "train.log")
        (folder / ".hydra").mkdir()
        OmegaConf.save(json.loads(config.model_dump_json()), folder / ".hydra/config.yaml")

        # Late: the import takes seconds, and an interruption during it must be recorded.
        from pregao.training.pipeline import Pipeline

        return Pipeline(config, folder, [_progress(self)]).run()

    def _end(self, **changes: Any) -> None:  # noqa: ANN401
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.update(finished=now(), **changes)
        (self.folder / RESERVE).unlink(missing_ok=True)

    def _fail(self, error: BaseException) -> None:
        """Record why the training ended; a cancelled one may end with any error."""
        cancelled, refused = cancelled_because(self.folder), refusal(error)
        if self.parent_died:
            self._end(state="failed", error="The server ended while this training ran.")
        elif cancelled is not None or isinstance(error, KeyboardInterrupt):
            self._end(state="cancelled", error=cancelled or "It was interrupted.")
        elif refused is not None:
            self._end(state="failed", error=str(refused), refusal=type(refused).__name__)
        else:
            logger.error("The training failed.", exc_info=error)
            self._end(state="failed", error="An internal error ended the training; see its log.")


def _progress(worker: Worker) -> Any:  # noqa: ANN401 - a Callback; its class is imported late
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import Callback

    class JobProgress(Callback):
        """Records epochs and losses, at most five times a second."""

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            done, most = trainer.current_epoch + 1, trainer.max_epochs or 1
            if time.monotonic() < worker.updated + SECONDS_BETWEEN_UPDATES and done < most:
                return
            losses = {name: trainer.callback_metrics.get(name) for name in ("train_loss", "val_loss")}
            known = {name: loss.item() for name, loss in losses.items() if loss is not None}
            worker.update(epoch=done, progress=round(0.05 + 0.85 * done / most, 3), **known)

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
        "inicio": result.first.isoformat(),
        "fim": result.last.isoformat(),
    }


def _log_to(file: Path) -> None:
    logging.basicConfig(
        filename=file, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )


if __name__ == "__main__":
    Worker(Path(sys.argv[1])).run()
    logging.shutdown()
    os._exit(0)  # torch and MLflow take a second to exit, while the next training waits for the lock
