"""LightningModule: loss, steps, metrics, optimiser around a network."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from pregao.data.datamodule import Batch, batches
from pregao.evaluation.step_errors import StepErrors, overall
from pregao.models.network import build_network
from pregao.quantiles import LEVELS, MEDIAN


def pinball_loss(quantiles: Float[Tensor, "batch horizon 7"], goal: Float[Tensor, "batch horizon"]) -> Tensor:
    """Mean over windows, steps and levels (Koenker & Bassett 1978)."""
    levels = quantiles.new_tensor(LEVELS)
    error = goal[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"pinball": pinball_loss, "mse": F.mse_loss}
"""`pinball` learns quantiles, `mse` the mean."""


class Forecaster(pl.LightningModule):
    """Trains a network.

    Args:
        network: `build_network`'s choices; numbers and strings, so that checkpoints load with `weights_only=True`.
        loss: a key of `LOSSES`, taken in the unit that the network learns in.
        learning_rate: Adam's.
        weight_decay: Adam's L2 penalty.
        seed: of dropout; with the epoch it decides every random number, so a resumed run equals an uninterrupted one.
        schedule: `cosine` lets the learning rate fall to zero over the epochs, `constant` leaves it.
        clip: the largest norm of a step's gradient; None for any.
        history: what it learns from, in words; a checkpoint is resumed on nothing else.
    """

    def __init__(
        self,
        network: dict[str, Any],
        loss: str,
        learning_rate: float,
        weight_decay: float,
        seed: int,
        schedule: str = "constant",
        clip: float | None = None,
        history: str = "",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters()
        torch.manual_seed(seed)
        self.network = build_network(**network)
        self.loss = LOSSES[loss]
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.seed = seed
        self.schedule = schedule
        self.clip = clip
        self.errors = StepErrors(network["horizon"])

    def forward(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles of the next closes, in the closes' unit."""
        quantiles: Tensor = self.network(closes, volatilities)
        return quantiles

    def on_train_epoch_start(self) -> None:
        """Dropout's random numbers follow from the seed and the epoch."""
        torch.manual_seed(self.seed + self.current_epoch)
        self.epoch_losses: list[Tensor] = []

    def training_step(self, block: Batch, batch_idx: int) -> None:
        """An optimiser step for each batch of the block: Lightning's doings around a call cost a third of a step."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        # Lightning's backward averages over processes; where there is one, its hooks are all that it adds.
        backward = Tensor.backward if self.trainer.world_size == 1 else self.manual_backward
        closes, volatilities, targets = block
        whole = (*self.network.encoded(closes, volatilities), self.network.goal(closes, volatilities, targets))
        for *seen, goal in batches(whole, self.trainer.datamodule.rows_a_step):  # type: ignore[attr-defined]
            loss = self.loss(self.network.decoded(*seen), goal)
            optimizer.zero_grad()
            backward(loss)
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
            optimizer.step()
            self.epoch_losses.append(loss.detach())

    def on_train_epoch_end(self) -> None:
        """The learning rate falls by epochs."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, LRScheduler):
            schedule.step()

    def mean_train_loss(self) -> Tensor:
        """Mean over the epoch's steps, and over processes."""
        mean: Tensor = self.trainer.strategy.reduce(torch.stack(self.epoch_losses).mean())
        return mean

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss, and errors in price units."""
        closes, volatilities, targets = batch
        learned = self.network.learned(closes, volatilities)
        loss = self.loss(learned, self.network.goal(closes, volatilities, targets))
        self.log("val_loss", loss, batch_size=len(closes), sync_dist=True)
        self.errors.update(self.network.quantiles(closes, volatilities, learned)[..., MEDIAN], targets)

    def on_validation_epoch_end(self) -> None:
        """Errors over the whole part."""
        self._log_errors("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Errors in price units."""
        closes, volatilities, targets = batch
        self.errors.update(self(closes, volatilities)[..., MEDIAN], targets)

    def on_test_epoch_end(self) -> None:
        """Errors over the whole part."""
        self._log_errors("test")

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of everything it takes
        """Adam, its learning rate falling by epochs where the schedule says so."""
        adam = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return adam
        epochs = self.trainer.max_epochs or 1
        return [adam], [torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)]

    def _log_errors(self, part: str) -> None:
        scores = overall(self.errors.compute())
        self.log_dict({f"{part}_{name}": value for name, value in scores.items()}, sync_dist=True)
        self.errors.reset()
