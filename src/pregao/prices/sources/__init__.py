"""Where prices come from. A new source is one class with `history` and one line in SOURCES."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Protocol

import pandas as pd

from pregao.prices.sources.b3 import B3Source
from pregao.prices.sources.csv import CsvSource
from pregao.prices.sources.sample import SampleSource
from pregao.prices.sources.yahoo import YahooSource
from pregao.prices.symbols import Symbol


class Source(Protocol):
    """Anything that has daily prices.

    Attributes:
        notes: what a person should know about the history just given; sentences.
    """

    notes: tuple[str, ...]

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
    "b3": B3Source,
    "sample": SampleSource,
}
READS_A_PATH = frozenset({"csv", "b3"})  # their class takes source.path as its first argument
FETCHES_BY_YEAR = frozenset({"b3"})  # its class takes the first day that is needed as its second
# A user's own file and the sample are as near as the cache. B3's quotes have a store of their own: in data/<STOCK>.csv
# they would replace Yahoo's dividends, and a later source=auto could not tell.
WRITES_THE_CACHE = frozenset({"yahoo"})


def build(name: str, path: Path | None, since: date | None = None) -> Source:
    """Make a source of SOURCES.

    Args:
        name: one of them.
        path: source.path=.
        since: the first day that is needed, for sources that fetch by year.

    Raises:
        InvalidChoice: the source needs a path, and there is none.
    """
    if name in FETCHES_BY_YEAR:
        return SOURCES[name](path, since)
    return SOURCES[name](path) if name in READS_A_PATH else SOURCES[name]()
