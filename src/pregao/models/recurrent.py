"""`model=lstm` and `model=gru`: a recurrent encoder with the quantile head."""

from pregao.models.encoders import Cell, Dropout, HiddenSize, Layers, RecurrentEncoder, Shrinkage
from pregao.models.quantile_model import FEATURES, Loss, QuantileModel, Start


class RecurrentModel(QuantileModel):
    """Quantiles from a recurrent encoder of the window.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        cell: kind of the recurrent layers.
        hidden_size: units of a layer.
        num_layers: recurrent layers.
        dropout: after each layer.
        shrinkage: factor on the predicted median.
        start: what the untrained model is: the panel model, or a random walk on the stock's volatility.
        loss: the training loss; pinball trains all quantiles together, log_variance trains the variance.
        recurrence: False replaces the layers' output by zeros, to measure what they are worth.
        online_width: False removes the online width (`calibration.online_widths`), to measure what it is worth.
        stocks: number of training stocks.
    """

    def __init__(
        self,
        *,
        horizon: int,
        inputs: str,
        cell: Cell,
        hidden_size: HiddenSize,
        num_layers: Layers,
        dropout: Dropout,
        shrinkage: Shrinkage,
        start: Start = "volatility",
        loss: Loss = "pinball",
        recurrence: bool = True,
        online_width: bool = True,
        stocks: int = 1,
    ) -> None:
        encoder = RecurrentEncoder(FEATURES, cell, hidden_size, num_layers, dropout, recurrence)
        super().__init__(horizon, inputs, encoder, hidden_size, shrinkage, start, loss, stocks)
        self.online_width = online_width

    @property
    def follows_outcomes(self) -> bool:
        """As `QuantileModel`, unless `online_width` is False."""
        return self.online_width and super().follows_outcomes
