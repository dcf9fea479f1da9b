"""Which stock a visitor looks at."""

from contextlib import suppress

import streamlit as st

from pregao import tracking
from pregao.dashboard.language import say
from pregao.dashboard.state import configuration, remembered
from pregao.errors import PregaoError
from pregao.prices.symbols import SAMPLES, SHARED, Symbol
from pregao.settings import settings


def choose_stock() -> Symbol:
    """The stock, on whichever page; any ticker may be typed.

    Raises:
        InvalidSymbol: what was typed is none.
    """
    stocks = known_stocks()
    first = stocks.index(Symbol.parse(configuration().stock).ticker)
    chosen = st.selectbox(
        say("stock"), stocks, first, key="stock", bind="query-params", accept_new_options=True, help=say("stock.help")
    )
    return Symbol.parse(str(chosen))


def known_stocks() -> list[str]:
    """The configured stock, the samples, and those that prices or models are at hand of."""
    config = configuration()
    found = {Symbol.parse(config.stock).ticker, *SAMPLES}
    for folder in (settings().data, config.source.path):
        if folder is not None and folder.is_dir():
            for file in folder.glob("*.csv"):
                with suppress(PregaoError):
                    found.add(Symbol.parse(file.stem).ticker)
    with suppress(PregaoError):  # prices can be looked at without a registry
        found.update(remembered("served stocks", tracking.served_stocks))
    return sorted(found - {SHARED})
