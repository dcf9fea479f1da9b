"""Where prices come from: a file per source, named as the source, with one subclass of Source."""

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
    """Anything that has daily prices.

    Attributes:
        reads_a_path: whether the constructor takes `source.path=` as its first argument.
        fetches_by_year: whether it takes the first day that is needed as its second.
        writes_the_cache: whether data/<STOCK>.csv keeps its prices.
        notes: what a person should know about the last history; sentences.
    """

    reads_a_path: ClassVar[bool] = False
    fetches_by_year: ClassVar[bool] = False
    writes_the_cache: ClassVar[bool] = False

    notes: tuple[str, ...] = ()

    @abstractmethod
    def history(self, symbol: Symbol) -> pd.DataFrame:
        """Everything the source has of a stock, in the columns of `table.COLUMNS`, unchecked but never empty.

        Raises:
            UnknownStock: the source answers, and knows no such stock.
            PricesUnavailable: the source does not answer.
            BadPrices: the source answers with something that is not a table of prices.
        """


@cache
def source_class(name: str) -> type[Source]:
    """The class of one of SOURCES."""
    module = import_module(f"{__name__}.{name}")
    classes = [found for found in vars(module).values() if isinstance(found, type) and issubclass(found, Source)]
    return next(found for found in classes if found.__module__ == module.__name__)


def build(name: str, path: Path | None, since: date | None = None) -> Source:
    """Make a source of SOURCES.

    Args:
        name: one of them.
        path: source.path=.
        since: the first day that is needed, for sources that fetch by year.

    Raises:
        InvalidChoice: the source needs a path, and there is none.
    """
    kind = source_class(name)
    make: Callable[..., Source] = kind
    if kind.fetches_by_year:
        return make(path, since)
    return make(path) if kind.reads_a_path else make()
