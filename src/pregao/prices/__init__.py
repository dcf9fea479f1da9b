"""Daily prices: from a ticker to a checked table of closes.

The names below load on first use: the command line asks `pregao.prices.symbols` before anything heavy may be imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pregao.prices.downloader import Downloader, Prices
    from pregao.prices.symbols import Symbol

__all__ = ["Downloader", "Prices", "Symbol"]

_HOMES = {"Downloader": "downloader", "Prices": "downloader", "Symbol": "symbols"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    """Import the file that holds a public name when the name is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
