"""`model=absolute`, the published network: prices in, prices out, without scaling. Kept for comparison."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from pregao.data.batch import Batch, Inputs
from pregao.data.volatility import NAMES
from pregao.models.base import ForecastModel, gaussian_quantiles
from pregao.models.encoders import Cell, Dropout, HiddenSize, Layers, RecurrentEncoder

LOWEST_PRICE = 0.01
"""The exchange's smallest tick; forecasts are clamped to it, since a log return needs a positive price."""


class AbsoluteModel(ForecastModel):
    """Predicts the next closes by mean squared error, with Gaussian bands of one calibrated width.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`; used only for the scale of the bands.
        cell: kind of the recurrent layers.
        hidden_size: units of a layer.
        num_layers: recurrent layers.
        dropout: after each layer.
        loss: the training loss; mse gives the mean of the price.
    """

    scale_invariant: ClassVar[bool] = False
    gaussian: Tensor

    def __init__(
        self,
        *,
        horizon: int,
        inputs: str,
        cell: Cell,
        hidden_size: HiddenSize,
        num_layers: Layers,
        dropout: Dropout,
        loss: Literal["mse"] = "mse",
    ) -> None:
        super().__init__(horizon, NAMES[inputs])
        self.hidden_size = hidden_size
        self.encoder = RecurrentEncoder(1, cell, hidden_size, num_layers, dropout)
        self.head = nn.Linear(hidden_size, horizon)
        self.register_buffer("gaussian", gaussian_quantiles(), persistent=False)

    def predict_prices(self, inputs: Inputs) -> Float[Tensor, "batch horizon"]:
        """The next closes, in the closes' currency; the linear head can predict negative ones."""
        prices: Tensor = self.head(self.encoder(inputs.closes[..., None].float()))
        return prices

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """A Gaussian distribution around the predicted closes; float64, since they can be far from the last close."""
        point = self.predict_prices(inputs).double().clamp_min(LOWEST_PRICE)
        z = (point / inputs.closes[:, -1:]).log() / self.scale(inputs)
        return z[..., None] + self.gaussian

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean squared error of the closes, in currency²."""
        return nn.functional.mse_loss(self.predict_prices(batch.inputs), batch.targets.float())

    def calibrate(self, batch: Batch) -> None:
        """Set the width at which the 90 % band contains 90 % of the validation part's closes."""
        self.fit_width(batch)
