"""A stock's index among the training stocks of a model."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

OTHER_STOCK = -1
"""The index of a stock that a model was not trained on."""


def places(tickers: np.ndarray | Sequence[str], stocks: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The index of each ticker among a model's stocks, `OTHER_STOCK` if it is absent."""
    numbers = {stock: number for number, stock in enumerate(stocks)}
    return np.array([numbers.get(str(ticker), OTHER_STOCK) for ticker in tickers], np.int64)
