"""`model=tcn`: a temporal convolutional network (Bai, Kolter & Koltun 2018, arXiv:1803.01271)."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pregao.models.encoders import Dropout, HiddenSize, Layers, Shrinkage
from pregao.models.quantile_model import FEATURES, Loss, QuantileModel, Start

KernelSize = Annotated[int, Field(ge=2, le=16)]


class TcnModel(QuantileModel):
    """Quantiles from causal convolutions, whose dilation doubles with each layer.

    The last layer sees 1 + (kernel_size - 1)(2^num_layers - 1) sessions.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        hidden_size: channels of a layer.
        num_layers: convolutions.
        kernel_size: sessions per convolution.
        dropout: after each layer.
        shrinkage: factor on the predicted median.
        start: the starting point, as for `RecurrentModel`.
        loss: the training loss, as for `RecurrentModel`.
        stocks: number of training stocks.
    """

    def __init__(
        self,
        *,
        horizon: int,
        inputs: str,
        hidden_size: HiddenSize,
        num_layers: Layers,
        kernel_size: KernelSize,
        dropout: Dropout,
        shrinkage: Shrinkage,
        start: Start = "volatility",
        loss: Loss = "pinball",
        stocks: int = 1,
    ) -> None:
        encoder = ConvolutionalEncoder(FEATURES, hidden_size, num_layers, kernel_size, dropout)
        super().__init__(horizon, inputs, encoder, hidden_size, shrinkage, start, loss, stocks)


class ConvolutionalEncoder(nn.Module):
    """Residual causal convolutions; the state after the last session."""

    def __init__(self, features: int, hidden_size: int, num_layers: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Conv1d(features, hidden_size, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.ConstantPad1d(((kernel_size - 1) * 2**layer, 0), 0.0),  # the past only
                nn.Conv1d(hidden_size, hidden_size, kernel_size, dilation=2**layer),
                nn.ReLU(),
                nn.Dropout(dropout),
            )
            for layer in range(num_layers)
        )

    def forward(self, features: Float[Tensor, "batch sessions features"]) -> Float[Tensor, "batch hidden"]:
        """The channels at the last session."""
        state: Tensor = self.enter(features.transpose(1, 2))
        for layer in self.layers:
            state = state + layer(state)
        return state[..., -1]
