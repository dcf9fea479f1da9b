"""What a model takes: a small typed batch of windows, as tensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:  # an inference process does without pandas' 60 MB
    from pregao.data.windows import Windows

OTHER_STOCK = -1
"""The place of a stock that a model was not trained on."""


class Inputs(NamedTuple):
    """What a forecast is made from.

    Attributes:
        closes: in the stock's currency, oldest first, float64.
        measures: what is known at the last close beyond the window, float32, NaN where unknown. The columns are those
            that the model names: `ForecastModel.measures`.
        stock: the place of the window's stock among the stocks that the model is trained on, or `OTHER_STOCK`.
    """

    closes: Float[Tensor, "*batch lookback"]
    measures: Float[Tensor, "*batch measures"]
    stock: Int[Tensor, "*batch"]


class Batch(NamedTuple):
    """Windows with the closes that follow them, in the stock's currency, float64."""

    inputs: Inputs
    targets: Float[Tensor, "*batch horizon"]

    def to(self, device: torch.device) -> "Batch":
        """The same windows on another device; Lightning calls it for each batch."""
        return Batch(Inputs(*(tensor.to(device) for tensor in self.inputs)), self.targets.to(device))


class WindowDataset(Dataset[Batch]):
    """Windows held as tensors. An index gives one window, a list or a slice of indices gives a batch of them."""

    def __init__(self, windows: "Windows", stocks: Sequence[str] = ()) -> None:
        self.batch = as_batch(windows, stocks)

    def __len__(self) -> int:
        return len(self.batch.targets)

    def __getitem__(self, index: int | slice | list[int]) -> Batch:
        inputs, targets = self.batch
        return Batch(Inputs(*(tensor[index] for tensor in inputs)), targets[index])


def as_batch(windows: "Windows", stocks: Sequence[str] = ()) -> Batch:
    """All windows as one batch; `stocks` are those that the model is trained on, in its order."""
    return Batch(
        as_inputs(windows.inputs, windows.volatilities, places(windows.stocks, stocks)),
        torch.from_numpy(windows.targets.copy()),
    )


def as_inputs(
    closes: Float[np.ndarray, "n lookback"], measures: Float[np.ndarray, "n measures"], stock: Int[np.ndarray, " n"]
) -> Inputs:
    """Arrays as tensors of the types that a model takes; copies, so that nobody writes into a history."""
    return Inputs(
        torch.tensor(closes, dtype=torch.float64),
        torch.tensor(measures, dtype=torch.float32),
        torch.tensor(stock, dtype=torch.int64),
    )


def places(tickers: np.ndarray | Sequence[str], stocks: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The place of each ticker among the stocks of a model, `OTHER_STOCK` where it is not one of them."""
    numbers = {stock: number for number, stock in enumerate(stocks)}
    return np.array([numbers.get(str(ticker), OTHER_STOCK) for ticker in tickers], np.int64)
