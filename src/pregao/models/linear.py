"""`model=linear`: the quantile head alone, on all sessions of the window."""

from torch import nn

from pregao.models.encoders import Shrinkage
from pregao.models.quantile_model import FEATURES, Loss, QuantileModel, Start


class LinearModel(QuantileModel):
    """Quantiles that are a linear function of the flattened window and of the measures.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        lookback: closes per window.
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
        shrinkage: Shrinkage,
        start: Start = "volatility",
        loss: Loss = "pinball",
        stocks: int = 1,
    ) -> None:
        super().__init__(horizon, inputs, nn.Flatten(), FEATURES * (lookback - 1), shrinkage, start, loss, stocks)
