"""Where prices come from. A new source (b3) is one class with `history` and one line in SOURCES."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pandas as pd

from pregao.prices.sources.csv import CsvSource
from pregao.prices.sources.sample import SampleSource
from pregao.prices.sources.yahoo import YahooSource
from pregao.prices.symbols import Symbol


class Source(Protocol):
    """Anything that has daily prices."""

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """Everything the source has of a stock, in the columns of `table.COLUMNS`, unchecked but never empty.

        Raises:
            UnknownStock: the source answers, and knows no such stock.
            PricesUnavailable: the source does not answer.
            BadPrices: the source answers with something that is no table of prices.
        """


SOURCES: dict[str, Callable[..., Source]] = {
    "yahoo": YahooSource,
    "csv": CsvSource,
    "sample": SampleSource,
}
READS_A_PATH = frozenset({"csv"})  # their class takes source.path as its one argument
WRITES_THE_CACHE = frozenset({"yahoo"})  # a user's own file and the sample are as near as the cache


def build(name: str, path: Path | None) -> Source:
    """Make a source of SOURCES.

    Raises:
        InvalidChoice: the source needs a path, and there is none.
    """
    return SOURCES[name](path) if name in READS_A_PATH else SOURCES[name]()
