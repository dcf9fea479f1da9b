"""Lightning callbacks of a training: the losses of each epoch, the best checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

Report = Callable[[Mapping[str, Sequence[float]], int], None]
"""Called with lists of values per epoch, by metric name, and the epoch (from 0) of the first value."""

SECONDS_BETWEEN_REPORTS = 1.0
"""Writing to the tracker takes as long as ten training steps of a small model."""


class LossHistory(Callback):
    """Collects the losses of each epoch and stores them in checkpoints, so a resumed run has all of them.

    Attributes:
        train: training loss of each epoch, the mean over its steps.
        val: validation loss after each epoch.
        report: called with new losses during training, at most once a second.
    """

    def __init__(self) -> None:
        self.train: list[float] = []
        self.val: list[float] = []
        self.report: Report | None = None
        self._reported = 0
        self._next_report = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the losses of the epoch; Lightning has run the validation before this hook."""
        self.train.append(trainer.callback_metrics["train_loss"].item())
        self.val.append(trainer.callback_metrics["val_loss"].item())
        if perf_counter() > self._next_report and trainer.is_global_zero:
            self.flush()

    def flush(self) -> None:
        """Report the losses that have not been reported yet."""
        if self.report is not None and self._reported < len(self.val):
            new = slice(self._reported, None)
            self.report({"history_train_loss": self.train[new], "history_val_loss": self.val[new]}, self._reported)
            self._reported = len(self.val)
        self._next_report = perf_counter() + SECONDS_BETWEEN_REPORTS

    def state_dict(self) -> dict[str, Any]:
        """The losses so far."""
        return {"train": list(self.train), "val": list(self.val)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the losses of the interrupted run."""
        self.train, self.val = list(state_dict["train"]), list(state_dict["val"])


class RunCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint file: the best by a metric, or the last.

    ModelCheckpoint loses the best score when a run resumes in another folder; this class keeps it.

    Args:
        folder: the folder of the run's checkpoints.
        name: file name without `.ckpt`.
        monitor: the metric to minimise; None overwrites the file after each epoch.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(folder, name, monitor=monitor, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, but with paths in this run's folder."""
        assert self.dirpath is not None
        file = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        here = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file}
        best = dict.fromkeys([file] if state_dict["best_k_models"] else [], state_dict["best_model_score"])
        super().load_state_dict({**state_dict, **here, "best_k_models": best})
