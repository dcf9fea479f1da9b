"""Trainer.fit with this project's callbacks: early stopping, the best checkpoint, the losses of each epoch."""

import logging
import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping

from pregao.data.datamodule import PricesDataModule
from pregao.errors import BadCheckpoint, Diverged, InvalidChoice
from pregao.training.config import TrainerChoices
from pregao.training.module import Forecaster

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning 2.6 asks torch 2.13 a question in a way that torch is giving up; nothing that a user could mend.
warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)

AVAILABLE = torch.get_num_threads()
"""Processors, or what OMP_NUM_THREADS allows."""

WORTH_TWO_THREADS = 10_000
"""Windows a step × hidden units. Below it threads wait for each other longer than they compute: benchmarks/speed.md."""


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
        """Validation has been by now."""
        assert isinstance(pl_module, Forecaster)
        self.train.append(pl_module.mean_train_loss().item())
        self.val.append(trainer.callback_metrics["val_loss"].item())

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint, so that a resumed run knows its whole history."""
        return {"train": list(self.train), "val": list(self.val)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart."""
        self.train, self.val = state_dict["train"], state_dict["val"]


class Checkpoints(Checkpoint):
    """`best.ckpt` when validation gets better, `last.ckpt` once a second and at the end; both at an epoch's end.

    Being a Checkpoint, it comes after all other callbacks, whose state it keeps. Lightning's ModelCheckpoint writes
    both in every epoch, which for this network takes as long as ten steps, and forgets the best score of a run that is
    resumed in another folder.

    Args:
        folder: where they go.
        watch: whether the best epoch is wanted; else best.ckpt holds the last weights too.
    """

    def __init__(self, folder: Path, watch: bool) -> None:
        self.best = folder / "best.ckpt"
        self.last = folder / "last.ckpt"
        self.watch = watch
        self.score = math.inf
        self.saved = -math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation has been by now; Trainer.save_checkpoint writes to a temporary file and renames."""
        score = trainer.callback_metrics["val_loss"].item()
        if self.watch and score < self.score:
            self.score = score
            trainer.save_checkpoint(self.best)
        final = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        # Processes save together, and their clocks may differ.
        if trainer.strategy.broadcast(final or perf_counter() > self.saved + 1):
            trainer.save_checkpoint(self.last)
            self.saved = perf_counter()
        if final and not self.watch and trainer.is_global_zero:
            shutil.copyfile(self.last, self.best)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart."""
        self.score = state_dict["score"]


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
        self.checkpoints = Checkpoints(folder / "checkpoints", watch=choices.patience is not None)
        self.trainer = _trainer(choices, [self.losses, self.checkpoints, *_stopping(choices.patience), *callbacks])
        if ckpt_path is not None:
            _check(ckpt_path, forecaster, choices)

    def fit(self, data: PricesDataModule) -> Fitted:
        """Train, and leave the chosen weights in the forecaster: the best on validation; without `patience`, the last.

        Raises:
            Diverged: the last validation loss is not finite.
            KeyboardInterrupt: ctrl-C.
        """
        torch.set_num_threads(self.choices.threads or self._best_threads(data.batch_size))
        if self.ckpt_path is not None and self.choices.patience is not None:
            self._take_along_the_best(self.ckpt_path)
        started = perf_counter()
        self._run(data)
        seconds = perf_counter() - started
        if self.trainer.world_size > 1:
            self._take_back()
        if not math.isfinite(self.losses.val[-1]):
            raise Diverged(len(self.losses.val), self.forecaster.learning_rate)
        chosen = len(self.losses.val) - 1
        if self.choices.patience is not None:
            best = torch.load(self.checkpoints.best, weights_only=True, map_location="cpu")
            self.forecaster.load_state_dict(best["state_dict"])
            chosen = best["epoch"]
        return Fitted(self.losses.train, self.losses.val, chosen, seconds)

    def _take_along_the_best(self, ckpt_path: Path) -> None:
        """A resumed run has a folder of its own, and its best epoch may lie before the interruption."""
        former, best = ckpt_path.with_name("best.ckpt"), self.checkpoints.best
        if former.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(former, best)

    def _best_threads(self, batch_size: int) -> int:
        """What trainer.threads=auto comes to: by the size of a step alone, so that the same run takes the same one."""
        hidden = self.forecaster.hparams["network"]["hidden_size"]
        threads = 2 if batch_size * hidden >= WORTH_TWO_THREADS and self.trainer.world_size == 1 else 1
        threads = min(threads, AVAILABLE)
        _say(threads)
        return threads

    def _take_back(self) -> None:
        """Forked processes have trained: what their callbacks collected lies in the last checkpoint."""
        last = torch.load(self.checkpoints.last, weights_only=True, map_location="cpu")
        self.losses.load_state_dict(last["callbacks"][self.losses.state_key])

    def _run(self, data: PricesDataModule) -> None:
        try:
            self.trainer.fit(self.forecaster, datamodule=data, ckpt_path=self.ckpt_path, weights_only=True)
        except SystemExit as stop:
            # Lightning answers ctrl-C by leaving with 1; callers want to know that a person interrupted.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise stop.__context__ from None
            raise


@cache
def _say(threads: int) -> None:
    """Once for each number."""
    logger.info("trainer.threads=auto: %d, as measured for a step of this size (benchmarks/speed.md).", threads)


def _trainer(choices: TrainerChoices, callbacks: list[Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=False,
            deterministic=True,
            enable_model_summary=False,
            enable_progress_bar=False,  # it costs a tenth of the time in fit; terminal.py shows epochs
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the datamodule divides its windows itself
            **choices.of_the_trainer(),
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InvalidChoice(f"trainer: {error}. Allowed are the arguments of pytorch_lightning.Trainer.") from None


def _stopping(patience: int | None) -> list[Callback]:
    return [] if patience is None else [EarlyStopping("val_loss", patience=patience, check_finite=True)]


def _check(path: Path, forecaster: Forecaster, choices: TrainerChoices) -> None:
    checkpoint = _read(path, path)
    _compare(path, checkpoint, forecaster)
    if checkpoint["epoch"] + 1 >= choices.max_epochs:
        reason = f"it already has {checkpoint['epoch'] + 1} epochs and trainer.max_epochs={choices.max_epochs}"
        raise BadCheckpoint(path, reason)
    if choices.patience is not None:
        _compare(path, _read(path.with_name("best.ckpt"), path), forecaster)


def _read(file: Path, asked: Path) -> dict[str, Any]:
    if not file.is_file():
        raise BadCheckpoint(asked, f"there is no file {file}")
    try:
        checkpoint: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        checkpoint["epoch"] + 1
        {name: value.shape for name, value in checkpoint["state_dict"].items()}
    except Exception:  # torch's unpickler meets damaged bytes with whatever its next line raises
        raise BadCheckpoint(asked, f"{file.name} is no checkpoint, or a damaged one") from None
    return checkpoint


def _compare(path: Path, checkpoint: dict[str, Any], forecaster: Forecaster) -> None:
    """A checkpoint goes on with what it was begun with: other closes might be those that it will be judged on."""
    shapes = {name: value.shape for name, value in forecaster.state_dict().items()}
    if {name: value.shape for name, value in checkpoint["state_dict"].items()} != shapes:
        raise BadCheckpoint(path, "its weights are of another network")
    begun, now = checkpoint.get("hyper_parameters", {}), dict(forecaster.hparams)
    other = [name for name in now if begun.get(name) != now[name]]
    if other:
        told = "; ".join(f"{name} was {begun.get(name)}, now it is {now[name]}" for name in other)
        raise BadCheckpoint(path, f"it was begun with other choices ({told})")
