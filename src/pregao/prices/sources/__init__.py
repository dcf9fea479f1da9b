"""Sources of prices: one module per source, with the source's name and one subclass of Source."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import ClassVar

import pandas as pd

from pregao.prices.symbols import Symbol

SOURCES = tuple(sorted(module.name for module in iter_modules(__path__)))


class Source(ABC):
    """A source of daily prices.

    Attributes:
        reads_a_path: whether the constructor takes `source.path=` as its first argument.
        fetches_by_year: whether the constructor takes the first day that is needed as its second argument.
        writes_the_cache: whether its prices are stored in data/<STOCK>.csv.
        has_an_end: whether no newer prices will ever exist.
        notes: warnings about the last history; sentences.
    """

    reads_a_path: ClassVar[bool] = False
    fetches_by_year: ClassVar[bool] = False
    writes_the_cache: ClassVar[bool] = False
    has_an_end: ClassVar[bool] = False

    notes: tuple[str, ...] = ()

    def accept(self, symbol: Symbol) -> tuple[str, ...]:
        """Store what the source knows besides prices, once these have passed all checks; returns warnings.

        Raises:
            PricesUnavailable: it is less than what is stored.
        """
        return ()

    @abstractmethod
    def history(self, symbol: Symbol) -> pd.DataFrame:
        """The whole history of a stock, in the columns of `table.COLUMNS`, unchecked but never empty.

        Raises:
            UnknownStock: the source answers but has no such stock.
            PricesUnavailable: the source does not answer.
            BadPrices: the answer is not a table of prices.
        """


@cache
def source_class(name: str) -> type[Source]:
    """The class of one of SOURCES."""
    module = import_module(f"{__name__}.{name}")
    classes = [found for found in vars(module).values() if isinstance(found, type) and issubclass(found, Source)]
    return next(found for found in classes if found.__module__ == module.__name__)


def build(name: str, path: Path | None, since: date | None = None) -> Source:
    """Create a source.

    Args:
        name: one of SOURCES.
        path: source.path=.
        since: the first day that is needed, for sources that fetch by year.

    Raises:
        InvalidChoice: the source needs a path and has none, or the path does not exist.
    """
    kind = source_class(name)
    make: Callable[..., Source] = kind
    if kind.fetches_by_year:
        return make(path, since)
    return make(path) if kind.reads_a_path else make()
