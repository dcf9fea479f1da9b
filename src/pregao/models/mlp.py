"""`model=mlp`: one hidden layer over all sessions of the window."""

from torch import nn

from pregao.models.encoders import Dropout, HiddenSize, Shrinkage
from pregao.models.quantile_model import FEATURES, Loss, QuantileModel, Start


class MlpModel(QuantileModel):
    """Quantiles from a dense hidden layer of the flattened window.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        lookback: closes per window.
        hidden_size: units of the layer.
        dropout: after the layer.
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
        dropout: Dropout,
        shrinkage: Shrinkage,
        start: Start = "volatility",
        loss: Loss = "pinball",
        stocks: int = 1,
    ) -> None:
        dense = nn.Linear(FEATURES * (lookback - 1), hidden_size)
        encoder = nn.Sequential(nn.Flatten(), dense, nn.GELU(), nn.Dropout(dropout))
        super().__init__(horizon, inputs, encoder, hidden_size, shrinkage, start, loss, stocks)
