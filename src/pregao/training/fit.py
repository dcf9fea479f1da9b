"""Trainer.fit with early stopping and checkpoints; a model without weights needs no Trainer."""

import logging
import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ProgressBar

from pregao.data.batch import as_batch
from pregao.data.datamodule import PricesDataModule
from pregao.errors import Diverged, InvalidChoice
from pregao.models.base import ForecastModel
from pregao.training.callbacks import LossHistory, Report, RunCheckpoint
from pregao.training.checkpoints import check_checkpoint
from pregao.training.config import TrainerChoices
from pregao.training.module import ForecastModule

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning 2.6 calls a function of torch 2.13 that is deprecated; a user cannot change that.
warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)

AVAILABLE = torch.get_num_threads()
"""Processors, or what OMP_NUM_THREADS allows."""

WORTH_TWO_THREADS = 10_000
"""Windows per step × hidden units. Below it threads wait longer than they compute: benchmarks/speed.md."""


@dataclass(frozen=True)
class Fitted:
    """Losses by epoch, the epoch (from 0) whose weights were kept, and the seconds inside Trainer.fit."""

    train_loss: list[float]
    val_loss: list[float]
    chosen: int
    seconds: float


class Training:
    """One fit that is ready to start; what it cannot do is refused here, before anything is tracked.

    Args:
        module: the model and its optimiser.
        choices: how long to train, and on what.
        folder: gets `checkpoints/best.ckpt` and `last.ckpt`.
        ckpt_path: a checkpoint to resume from.
        callbacks: further Lightning callbacks, such as a progress bar.

    Raises:
        BadCheckpoint: this training cannot resume from `ckpt_path`.
        InvalidChoice: the Trainer does not take a choice.
    """

    def __init__(
        self,
        module: ForecastModule,
        choices: TrainerChoices,
        folder: Path,
        ckpt_path: Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.module = module
        self.choices = choices
        self.folder = folder / "checkpoints"
        self.ckpt_path = ckpt_path
        self.losses = LossHistory()
        self.trainer = _trainer(choices, [self.losses, *_stopping(choices, self.folder), *callbacks])
        if ckpt_path is not None:
            check_checkpoint(ckpt_path, module, choices.max_epochs, self.keeps_best)

    @property
    def keeps_best(self) -> bool:
        """Whether the best weights on validation are kept, rather than the last ones."""
        return self.choices.patience is not None

    def fit(self, data: PricesDataModule, report: Report | None = None) -> Fitted:
        """Train, and leave the chosen weights in the model: the best on validation; without `patience`, the last.

        Args:
            data: the windows.
            report: receives the losses while the training runs.

        Raises:
            Diverged: the last validation loss is not finite.
            KeyboardInterrupt: ctrl-C.
        """
        if not any(weight.requires_grad for weight in self.module.model.parameters()):
            return fit_closed_form(self.module.model, data)
        torch.set_num_threads(self.choices.threads or self._best_threads(data.batch_size))
        self.losses.report = report
        if self.ckpt_path is not None and self.keeps_best:
            self._copy_best(self.ckpt_path)
        started = perf_counter()
        self._run(data)
        seconds = perf_counter() - started
        if self.trainer.world_size > 1:
            self._read_losses_of_processes()
        self.losses.flush()
        if not math.isfinite(self.losses.val[-1]):
            raise Diverged(len(self.losses.val), self.module.hparams["learning_rate"])
        return Fitted(self.losses.train, self.losses.val, self._keep_chosen(), seconds)

    def _keep_chosen(self) -> int:
        """Load the chosen weights; returns their epoch."""
        best = self.folder / "best.ckpt"
        if not self.keeps_best:
            shutil.copyfile(self.folder / "last.ckpt", best)
            return len(self.losses.val) - 1
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        self.module.load_state_dict(checkpoint["state_dict"])
        return int(checkpoint["epoch"])

    def _copy_best(self, ckpt_path: Path) -> None:
        """A resumed run has its own folder, and its best epoch may lie before the interruption."""
        previous, best = ckpt_path.with_name("best.ckpt"), self.folder / "best.ckpt"
        if previous.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(previous, best)

    def _best_threads(self, batch_size: int) -> int:
        """The number that trainer.threads=auto means: it follows from the size of a step alone."""
        work = batch_size * getattr(self.module.model, "hidden_size", 0)
        threads = min(2 if work >= WORTH_TWO_THREADS and self.trainer.world_size == 1 else 1, AVAILABLE)
        _log_once(threads)
        return threads

    def _read_losses_of_processes(self) -> None:
        """Forked processes have trained: their callbacks' state is in the last checkpoint."""
        last = torch.load(self.folder / "last.ckpt", weights_only=True, map_location="cpu")
        self.losses.load_state_dict(last["callbacks"][self.losses.state_key])

    def _run(self, data: PricesDataModule) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's
                self.trainer.fit(self.module, datamodule=data, ckpt_path=self.ckpt_path, weights_only=True)
        except SystemExit as stop:
            # Lightning turns ctrl-C into exit code 1; callers need to know that a person interrupted.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise stop.__context__ from None
            raise


def fit_closed_form(model: ForecastModel, data: PricesDataModule) -> Fitted:
    """Fit a model without weights; its losses are those after the fit."""
    data.prepare_data()
    data.setup("fit")
    split, stocks = data.panel.split, data.panel.stocks
    train, validation = as_batch(split.train, stocks), as_batch(split.validation, stocks)
    started = perf_counter()
    model.initialise(*train)
    seconds = perf_counter() - started
    return Fitted([model.loss(*train).item()], [model.loss(*validation).item()], 0, seconds)


@cache
def _log_once(threads: int) -> None:
    logger.info("trainer.threads=auto: %d, as measured for a step of this size (benchmarks/speed.md).", threads)


def _trainer(choices: TrainerChoices, callbacks: list[Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=False,
            deterministic=True,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the datamodule divides its windows itself
            **choices.of_the_trainer(),
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InvalidChoice(f"trainer: {error}. Allowed are the arguments of pytorch_lightning.Trainer.") from None


def _stopping(choices: TrainerChoices, folder: Path) -> list[Callback]:
    """Checkpoints, the last one after each epoch; with `patience`, early stopping and the best one."""
    last = RunCheckpoint(folder, "last")
    if choices.patience is None:
        return [last]
    stop = EarlyStopping("val_loss", patience=choices.patience, check_finite=True)
    return [stop, RunCheckpoint(folder, "best", monitor="val_loss"), last]
