"""`model=transformer`: self-attention over the sessions of the window (Vaswani et al. 2017, arXiv:1706.03762)."""

from math import gcd
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pregao.models.encoders import Dropout, HiddenSize, Layers, Shrinkage
from pregao.models.quantile_model import FEATURES, Loss, QuantileModel, Start

Heads = Annotated[int, Field(gt=0, le=16)]


class TransformerModel(QuantileModel):
    """Quantiles from the last session's state of torch's transformer encoder.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        lookback: closes per window.
        hidden_size: units of a session's state; the feed-forward part has twice as many.
        num_layers: encoder layers.
        heads: attention heads; the greatest common divisor with `hidden_size` is used.
        dropout: in each layer.
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
        lookback: int,
        hidden_size: HiddenSize,
        num_layers: Layers,
        heads: Heads,
        dropout: Dropout,
        shrinkage: Shrinkage,
        start: Start = "volatility",
        loss: Loss = "pinball",
        stocks: int = 1,
    ) -> None:
        encoder = AttentionEncoder(FEATURES, lookback - 1, hidden_size, num_layers, heads, dropout)
        super().__init__(horizon, inputs, encoder, hidden_size, shrinkage, start, loss, stocks)


class AttentionEncoder(nn.Module):
    """Transformer layers on sessions with learned positions; the state of the last session."""

    def __init__(
        self, features: int, sessions: int, hidden_size: int, num_layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(features, hidden_size)
        self.position = nn.Parameter(0.02 * torch.randn(sessions, hidden_size))
        layer = nn.TransformerEncoderLayer(
            hidden_size, gcd(heads, hidden_size), 2 * hidden_size, dropout, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)

    def forward(self, features: Float[Tensor, "batch sessions features"]) -> Float[Tensor, "batch hidden"]:
        """The last session's state."""
        states: Tensor = self.layers(self.enter(features) + self.position)
        return states[:, -1]
