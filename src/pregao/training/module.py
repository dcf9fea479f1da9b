"""LightningModule around a ForecastModel: loss, errors, optimiser."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanAbsolutePercentageError, MeanSquaredError, MetricCollection

from pregao.data.batch import Batch, Inputs
from pregao.models.base import ForecastModel
from pregao.quantiles import MEDIAN


class ForecastModule(pl.LightningModule):
    """Trains a ForecastModel with Adam.

    Args:
        model: what is trained; all other arguments are numbers and strings, so that checkpoints load without a pickle.
        learning_rate: of Adam.
        weight_decay: Adam's L2 penalty.
        schedule: `cosine` lets the learning rate fall to zero over the epochs, `constant` keeps it.
        seed: of dropout; with the epoch it decides every random number, so a resumed run equals an uninterrupted one.
        history: the data and the model, in words; a checkpoint resumes on nothing else.
    """

    def __init__(
        self,
        model: ForecastModel,
        learning_rate: float,
        weight_decay: float,
        schedule: Literal["cosine", "constant"],
        seed: int,
        history: str = "",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="model")
        self.model = model
        self.errors = MetricCollection({"rmse": MeanSquaredError(squared=False), "mape": MeanAbsolutePercentageError()})

    def forward(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the next closes, in the closes' currency."""
        quantiles: Tensor = self.model(inputs)
        return quantiles

    def on_train_start(self) -> None:
        """Estimate statistics of the training part, unless they came with the weights."""
        loader = self.trainer.train_dataloader
        assert loader is not None
        self.model.initialise(*self.trainer.strategy.batch_to_device(loader.dataset[:]))

    def on_train_epoch_start(self) -> None:
        """Dropout's random numbers follow from the seed and the epoch."""
        torch.manual_seed(self.hparams["seed"] + self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The model's loss."""
        loss = self.model.loss(batch.inputs, batch.targets)
        # batch_size=1: the mean over steps, whatever the size of the last batch.
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The model's loss."""
        loss = self.model.loss(batch.inputs, batch.targets)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.targets), sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """RMSE in the closes' currency and MAPE as a fraction, of the median."""
        self.errors.update(self(batch.inputs)[..., MEDIAN].contiguous(), batch.targets)
        self.log_dict({f"test_{name}": metric for name, metric in self.errors.items()}, batch_size=len(batch.targets))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of everything it takes
        """Adam, and a learning rate that falls by epochs where the schedule says so."""
        chosen = self.hparams
        adam = torch.optim.Adam(self.model.parameters(), chosen["learning_rate"], weight_decay=chosen["weight_decay"])
        if chosen["schedule"] == "constant":
            return adam
        return [adam], [torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.trainer.max_epochs or 1)]
