"""The recurrent encoder, features per session [B, sessions, F] → one state [B, hidden], and bounds of choices."""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

Cell = Literal["lstm", "gru"]
HiddenSize = Annotated[int, Field(gt=0, le=512)]
Layers = Annotated[int, Field(gt=0, le=8)]
Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Shrinkage = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

CELLS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentEncoder(nn.Module):
    """LSTM or GRU layers with dropout after each layer; the last layer's state after the last session."""

    def __init__(
        self, features: int, cell: Cell, hidden_size: int, num_layers: int, dropout: float, used: bool = True
    ) -> None:
        super().__init__()
        self.used = used
        between = dropout if num_layers > 1 else 0.0
        self.cell = CELLS[cell](features, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "batch sessions features"]) -> Float[Tensor, "batch hidden"]:
        """The last layer's state after the last session."""
        states, _ = self.cell(features)
        state: Tensor = self.dropout(states[:, -1]) * self.used
        return state
