"""Lightning callbacks of a training: the losses of each epoch, the best checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

Report = Callable[[Mapping[str, Sequence[float]], int], None]
"""Called with values per epoch by name, and the epoch of the first value."""

SECONDS_BETWEEN_REPORTS = 1.0
"""A write to a tracker takes as long as ten steps of a small model."""


class LossHistory(Callback):
    """Collects the losses of each epoch; they are part of a checkpoint, so a resumed run knows all of them.

    Attributes:
        train: mean over the steps of each epoch.
        val: of the validation part after each epoch.
        report: receives new losses while the training runs, at most once a second.
    """

    def __init__(self) -> None:
        self.train: list[float] = []
        self.val: list[float] = []
        self.report: Report | None = None
        self._reported = 0
        self._next_report = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation has run by now."""
        self.train.append(trainer.callback_metrics["train_loss"].item())
        self.val.append(trainer.callback_metrics["val_loss"].item())
        if perf_counter() > self._next_report and trainer.is_global_zero:
            self.flush()

    def flush(self) -> None:
        """Report what is not reported yet."""
        if self.report is not None and self._reported < len(self.val):
            new = slice(self._reported, None)
            self.report({"history_train_loss": self.train[new], "history_val_loss": self.val[new]}, self._reported)
            self._reported = len(self.val)
        self._next_report = perf_counter() + SECONDS_BETWEEN_REPORTS

    def state_dict(self) -> dict[str, Any]:
        """The losses so far."""
        return {"train": list(self.train), "val": list(self.val)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the losses of the interrupted run."""
        self.train, self.val = list(state_dict["train"]), list(state_dict["val"])


class RunCheckpoint(ModelCheckpoint):
    """One file of a run's folder, replaced when there is a better one, or in each epoch.

    ModelCheckpoint forgets the best score when a run resumes in another folder; this one keeps it.

    Args:
        folder: of the run's checkpoints.
        name: of the file, without `.ckpt`.
        monitor: the metric that has to fall; None writes in each epoch.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(folder, name, monitor=monitor, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the score, with the paths of this run's folder."""
        assert self.dirpath is not None
        file = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        here = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file}
        best = dict.fromkeys([file] if state_dict["best_k_models"] else [], state_dict["best_model_score"])
        super().load_state_dict({**state_dict, **here, "best_k_models": best})
