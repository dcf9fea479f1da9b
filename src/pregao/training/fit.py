"""Trainer.fit with early stopping and checkpoints; a closed-form fit for models without weights."""

import logging
import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, ProgressBar
from torch import Tensor

from pregao.data.batch import Batch, as_batch
from pregao.data.datamodule import PricesDataModule
from pregao.errors import Diverged, InvalidChoice
from pregao.models.base import ForecastModel
from pregao.training.callbacks import LossHistory, Report, RunCheckpoint
from pregao.training.checkpoints import check_checkpoint
from pregao.training.config import TrainerChoices
from pregao.training.module import ForecastModule

logger = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# Lightning 2.6 calls a deprecated function of torch 2.13; users cannot change that.
warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)

AVAILABLE = torch.get_num_threads()
"""The number of processors, or OMP_NUM_THREADS."""

TWO_THREADS_FROM = 10_000
"""Windows per step × hidden units. Smaller steps are faster on one thread: benchmarks/speed.md."""


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes:
        train_loss: per epoch.
        val_loss: per epoch.
        chosen: the epoch (from 0) of the kept weights.
        seconds: in Trainer.fit.
        kept_start: whether the starting point is kept, since training did not improve it.
    """

    train_loss: list[float]
    val_loss: list[float]
    chosen: int
    seconds: float
    kept_start: bool = False


class Training:
    """A fit that is ready to start; the constructor refuses invalid settings before an MLflow run starts.

    Args:
        module: the model and its optimiser.
        choices: duration and device.
        folder: `checkpoints/best.ckpt` and `checkpoints/last.ckpt` are written here.
        ckpt_path: a checkpoint to resume from.
        callbacks: further Lightning callbacks, such as a progress bar.
        start: the trained model that the training starts from; it is kept if training does not improve it.

    Raises:
        BadCheckpoint: this training cannot resume from `ckpt_path`.
        InvalidChoice: the Trainer refuses a setting.
    """

    def __init__(
        self,
        module: ForecastModule,
        choices: TrainerChoices,
        folder: Path,
        ckpt_path: Path | None = None,
        callbacks: Sequence[Callback] = (),
        start: ForecastModel | None = None,
    ) -> None:
        self.module = module
        self.start = start
        self.choices = choices
        self.folder = folder / "checkpoints"
        self.ckpt_path = ckpt_path
        self.losses = LossHistory()
        self.trainer = _trainer(choices, [self.losses, *_stopping(choices, self.folder), *callbacks])
        if ckpt_path is not None:
            check_checkpoint(ckpt_path, module, choices.max_epochs, self.keeps_best)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights with the best validation loss are kept instead of the last ones."""
        return self.choices.patience is not None

    def fit(self, data: PricesDataModule, report: Report | None = None) -> Fitted:
        """Train, and load the kept weights: with `patience` the best by validation loss, otherwise the last.

        Args:
            data: the windows.
            report: called with the losses during training.

        Raises:
            Diverged: the last validation loss is not finite.
            KeyboardInterrupt: the user pressed ctrl-C.
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
            self._read_losses_of_workers()
        self.losses.flush()
        if not math.isfinite(self.losses.val[-1]):
            raise Diverged(len(self.losses.val), self.module.hparams["learning_rate"])
        chosen = self._load_kept_weights()
        return Fitted(self.losses.train, self.losses.val, chosen, seconds, self._keep_start(data))

    def _keep_start(self, data: PricesDataModule) -> bool:
        """Keep the starting point unless training lowered its pinball loss on the validation part."""
        model = self.module.model.eval()
        start = self.start or model.starting_point()
        if start is None:
            return False
        validation = as_batch(data.panel.split.validation, data.panel.stocks)
        before, after = (mean_loss(partial(ForecastModel.loss, one.eval()), validation) for one in (start, model))
        if after < before:
            return False
        logger.info(
            "Training did not improve the starting point (validation pinball %.4f, before %.4f): its bands are kept.",
            *(after, before),
        )
        model.load_state_dict(start.state_dict())
        return True

    def _load_kept_weights(self) -> int:
        """Load the kept weights and return their epoch."""
        best = self.folder / "best.ckpt"
        if not self.keeps_best:
            shutil.copyfile(self.folder / "last.ckpt", best)
            return len(self.losses.val) - 1
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        self.module.load_state_dict(checkpoint["state_dict"])
        return int(checkpoint["epoch"])

    def _copy_best(self, ckpt_path: Path) -> None:
        """Copy best.ckpt of the interrupted run, whose best epoch may be better than all later ones."""
        previous, best = ckpt_path.with_name("best.ckpt"), self.folder / "best.ckpt"
        if previous.resolve() != best.resolve():
            best.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(previous, best)

    def _best_threads(self, batch_size: int) -> int:
        """The number of threads for trainer.threads=auto; it depends on the size of a step only."""
        work = batch_size * getattr(self.module.model, "hidden_size", 0)
        threads = min(2 if work >= TWO_THREADS_FROM and self.trainer.world_size == 1 else 1, AVAILABLE)
        _log_once(threads)
        return threads

    def _read_losses_of_workers(self) -> None:
        """Read the losses from the last checkpoint: the callbacks of forked processes are not in this process."""
        last = torch.load(self.folder / "last.ckpt", weights_only=True, map_location="cpu")
        self.losses.load_state_dict(last["callbacks"][self.losses.state_key])

    def _run(self, data: PricesDataModule) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # of a resumed run
                self.trainer.fit(self.module, datamodule=data, ckpt_path=self.ckpt_path, weights_only=True)
        except SystemExit as stop:
            # Lightning turns ctrl-C into SystemExit(1); callers expect KeyboardInterrupt.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise stop.__context__ from None
            raise


def fit_closed_form(model: ForecastModel, data: PricesDataModule) -> Fitted:
    """Fit a model without trainable weights; returns its losses after the fit."""
    data.prepare_data()
    data.setup("fit")
    split, stocks = data.panel.split, data.panel.stocks
    train, validation = as_batch(split.train, stocks), as_batch(split.validation, stocks)
    started = perf_counter()
    model.initialise(train)
    seconds = perf_counter() - started
    return Fitted([mean_loss(model.loss, train)], [mean_loss(model.loss, validation)], 0, seconds)


def mean_loss(loss: Callable[[Batch], Tensor], batch: Batch) -> float:
    """The mean over windows, without gradients."""
    with torch.inference_mode():
        losses = [(loss(part).item(), len(part.targets)) for part in batch.parts()]
    return math.fsum(value * windows for value, windows in losses) / len(batch.targets)


@cache
def _log_once(threads: int) -> None:
    logger.info("trainer.threads=auto: %d, the faster choice for steps of this size (benchmarks/speed.md).", threads)


def _trainer(choices: TrainerChoices, callbacks: list[Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=False,
            deterministic=True,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the data module divides its windows
            **choices.trainer_arguments(),
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InvalidChoice(f"trainer: {error}. Allowed are the arguments of pytorch_lightning.Trainer.") from None


def _stopping(choices: TrainerChoices, folder: Path) -> list[Callback]:
    """The callback for last.ckpt; with `patience` also those for early stopping and best.ckpt."""
    last = RunCheckpoint(folder, "last")
    if choices.patience is None:
        return [last]
    stop = EarlyStopping("val_loss", patience=choices.patience, check_finite=True)
    return [stop, RunCheckpoint(folder, "best", monitor="val_loss"), last]
