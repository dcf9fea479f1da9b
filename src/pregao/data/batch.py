"""The inputs and targets of a model: a typed batch of windows, as tensors."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from pregao.data.stock_index import places

if TYPE_CHECKING:  # an inference process saves pandas' 60 MB
    from pregao.data.windows import Windows

LARGEST_BATCH = 16_384
"""Windows of one batch where a whole part is evaluated: a network's activations take 8 kB per window."""


class Inputs(NamedTuple):
    """The inputs of a forecast.

    Attributes:
        closes: in the stock's currency, oldest first, float64.
        measures: volatilities known at the last close, float32, NaN where unknown. The columns are
            `ForecastModel.measures`.
        stock: the index of the window's stock among the model's training stocks, or `OTHER_STOCK`.
    """

    closes: Float[Tensor, "*batch lookback"]
    measures: Float[Tensor, "*batch measures"]
    stock: Int[Tensor, "*batch"]


class Batch(NamedTuple):
    """Windows with what follows.

    Attributes:
        inputs: known at the last close.
        targets: the closes that follow, in the stock's currency, float64.
        variances: mean daily variance of the sessions up to each target, float32, NaN where unknown.
    """

    inputs: Inputs
    targets: Float[Tensor, "*batch horizon"]
    variances: Float[Tensor, "*batch horizon"]

    def to(self, device: torch.device) -> "Batch":
        """Copy to another device; Lightning calls this for each batch."""
        inputs = Inputs(*(tensor.to(device) for tensor in self.inputs))
        return Batch(inputs, self.targets.to(device), self.variances.to(device))

    def at(self, index: int | slice | list[int]) -> "Batch":
        """One window, or a smaller batch."""
        inputs = Inputs(*(tensor[index] for tensor in self.inputs))
        return Batch(inputs, self.targets[index], self.variances[index])

    def parts(self) -> Iterator["Batch"]:
        """The windows in their order, in batches of at most `LARGEST_BATCH`."""
        for first in range(0, len(self.targets), LARGEST_BATCH):
            yield self.at(slice(first, first + LARGEST_BATCH))


class WindowDataset(Dataset[Batch]):
    """All windows as tensors. An integer index returns one window, a list or a slice returns a batch."""

    def __init__(self, windows: "Windows", stocks: Sequence[str] = ()) -> None:
        self.batch = as_batch(windows, stocks)

    def __len__(self) -> int:
        return len(self.batch.targets)

    def __getitem__(self, index: int | slice | list[int]) -> Batch:
        return self.batch.at(index)


def as_batch(windows: "Windows", stocks: Sequence[str] = ()) -> Batch:
    """All windows as one batch; `stocks` are the model's training stocks, in its order."""
    return Batch(
        as_inputs(windows.inputs, windows.volatilities, places(windows.stocks, stocks)),
        torch.from_numpy(windows.targets.copy()),
        torch.from_numpy(windows.variances.copy()),
    )


def as_inputs(
    closes: Float[np.ndarray, "n lookback"], measures: Float[np.ndarray, "n measures"], stock: Int[np.ndarray, " n"]
) -> Inputs:
    """Arrays as tensors of a model's input types; copies, so that the history cannot change."""
    return Inputs(
        torch.tensor(closes, dtype=torch.float64),
        torch.tensor(measures, dtype=torch.float32),
        torch.tensor(stock, dtype=torch.int64),
    )
