"""The LightningModule: loss, test errors and optimiser of a ForecastModel."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanAbsolutePercentageError, MeanSquaredError, MetricCollection

from pregao.data.batch import Batch, Inputs
from pregao.data.seeds import DROPOUT, derived
from pregao.models.base import ForecastModel
from pregao.quantiles import MEDIAN


class ForecastModule(pl.LightningModule):
    """Trains a ForecastModel with Adam.

    Args:
        model: the model to train. Other arguments are numbers and strings, so that checkpoints load without pickle.
        learning_rate: Adam's initial learning rate.
        weight_decay: Adam's L2 penalty.
        schedule: `cosine` decreases the learning rate to zero over the epochs; `constant` keeps it.
        seed: seed of dropout; reset with the epoch number, so that a resumed run equals an uninterrupted one.
        history: description of the data and the model; a run resumes only with the same description.
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
        """Quantiles of the next closes, in the currency of the closes."""
        quantiles: Tensor = self.model(inputs)
        return quantiles

    def on_train_start(self) -> None:
        """Estimate the model's statistics from the training part, unless its weights were loaded."""
        loader = self.trainer.train_dataloader
        assert loader is not None
        self.model.initialise(self.trainer.strategy.batch_to_device(loader.dataset[:]))

    def on_train_epoch_start(self) -> None:
        """Reset the random numbers of dropout, with another seed in each epoch."""
        torch.manual_seed(derived(self.hparams["seed"], DROPOUT) + self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return and log the model's loss."""
        loss = self.model.loss(batch)
        # batch_size=1: the logged value is the mean over steps, also when the last batch is smaller.
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the model's loss."""
        loss = self.model.loss(batch)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.targets), sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log RMSE (in the currency of the closes) and MAPE (a fraction) of the median."""
        self.errors.update(self(batch.inputs)[..., MEDIAN].contiguous(), batch.targets)
        self.log_dict({f"test_{name}": metric for name, metric in self.errors.items()}, batch_size=len(batch.targets))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of allowed types
        """Adam, with a cosine learning-rate schedule over the epochs if chosen."""
        chosen = self.hparams
        adam = torch.optim.Adam(self.model.parameters(), chosen["learning_rate"], weight_decay=chosen["weight_decay"])
        if chosen["schedule"] == "constant":
            return adam
        return [adam], [torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.trainer.max_epochs or 1)]
