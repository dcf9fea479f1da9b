"""Trainer.fit with this project's callbacks: early stopping, the best checkpoint, the losses of each epoch."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from pregao.config import TrainerChoices
from pregao.datamodule import PricesDataModule
from pregao.errors import BadCheckpoint, InvalidChoice
from pregao.forecaster import Forecaster

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning 2.6 asks torch 2.13 a question in a way that torch is giving up; nothing that a user could mend.
warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)


@dataclass(frozen=True)
class Fitted:
    """Losses by epoch, the epoch (from 0) whose weights were chosen, and the seconds inside Trainer.fit."""

    train_loss: list[float]
    val_loss: list[float]
    chosen: int
    seconds: float


@dataclass
class Losses(Callback):
    """Collects the losses of each epoch."""

    train: list[float] = field(default_factory=list)
    val: list[float] = field(default_factory=list)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Both are known by now: validation runs inside the epoch."""
        self.train.append(trainer.callback_metrics["train_loss"].item())
        self.val.append(trainer.callback_metrics["val_loss"].item())

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint, so that a resumed run knows its whole history."""
        return {"train": list(self.train), "val": list(self.val)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart."""
        self.train, self.val = state_dict["train"], state_dict["val"]


class Checkpoints(ModelCheckpoint):
    """`best.ckpt` and `last.ckpt` of a run; a resumed run takes the best so far along into its own folder."""

    def __init__(self, folder: Path, patience: int | None, resumed: Path | None) -> None:
        super().__init__(
            dirpath=folder / "checkpoints",
            filename="best",
            monitor=None if patience is None else "val_loss",
            save_last=True,
            enable_version_counter=False,  # one best.ckpt, written anew
        )
        self.resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning would forget the best score of a run in another folder."""
        assert self.resumed is not None
        assert self.dirpath is not None
        former, best = self.resumed.with_name("best.ckpt"), Path(self.dirpath) / "best.ckpt"
        if former.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(former, best)
        scores = {str(best): score for score in state_dict["best_k_models"].values()}
        paths = {"best_model_path": str(best), "kth_best_model_path": str(best), "last_model_path": ""}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": scores})


class Training:
    """One fit that is ready to start; what it cannot do is refused here, before anything is tracked.

    Raises:
        BadCheckpoint: `ckpt_path` is no checkpoint of this network.
        InvalidChoice: the Trainer knows no such key or value.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        choices: TrainerChoices,
        folder: Path,
        ckpt_path: Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.forecaster = forecaster
        self.choices = choices
        self.ckpt_path = ckpt_path
        self.losses = Losses()
        self.keeper = Checkpoints(folder, choices.patience, ckpt_path)
        self.trainer = _trainer(choices, [self.losses, self.keeper, *_stopping(choices.patience), *callbacks])
        if ckpt_path is not None:
            _check(ckpt_path, forecaster, choices.max_epochs)

    def fit(self, data: PricesDataModule) -> Fitted:
        """Train, and leave the chosen weights in the forecaster: the best on validation; without `patience`, the last.

        Raises:
            KeyboardInterrupt: ctrl-C.
        """
        torch.set_num_threads(self.choices.threads)
        started = perf_counter()
        self._run(data)
        seconds = perf_counter() - started
        chosen = len(self.losses.val) - 1
        if self.choices.patience is not None:
            best = torch.load(self.keeper.best_model_path, weights_only=True)
            self.forecaster.load_state_dict(best["state_dict"])
            chosen = best["epoch"]
        return Fitted(self.losses.train, self.losses.val, chosen, seconds)

    def _run(self, data: PricesDataModule) -> None:
        try:
            self.trainer.fit(self.forecaster, datamodule=data, ckpt_path=self.ckpt_path, weights_only=True)
        except SystemExit as stop:
            # Lightning answers ctrl-C by leaving with 1; callers want to know that a person interrupted.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _trainer(choices: TrainerChoices, callbacks: list[Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            callbacks=callbacks,
            max_epochs=choices.max_epochs,
            logger=False,
            deterministic=True,
            enable_model_summary=False,
            enable_progress_bar=False,  # it costs a tenth of the time in fit; terminal.py shows epochs
            num_sanity_val_steps=0,
            **(choices.model_extra or {}),
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InvalidChoice(f"trainer: {error}. Allowed are the arguments of pytorch_lightning.Trainer.") from None


def _stopping(patience: int | None) -> list[Callback]:
    return [] if patience is None else [EarlyStopping("val_loss", patience=patience, check_finite=True)]


def _check(path: Path, forecaster: Forecaster, max_epochs: int) -> None:
    for needed in (path, path.with_name("best.ckpt")):
        if not needed.is_file():
            raise BadCheckpoint(path, f"there is no file {needed}")
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        state, epoch = checkpoint["state_dict"], checkpoint["epoch"]
        shapes = {name: value.shape for name, value in state.items()}
    except Exception:  # torch's unpickler meets damaged bytes with whatever its next line raises
        raise BadCheckpoint(path, "this is no checkpoint, or a damaged one") from None
    wanted = {name: value.shape for name, value in forecaster.state_dict().items()}
    if shapes != wanted:
        raise BadCheckpoint(path, "its weights are of another network")
    if epoch + 1 >= max_epochs:
        raise BadCheckpoint(path, f"it already has {epoch + 1} epochs and trainer.max_epochs={max_epochs}")
