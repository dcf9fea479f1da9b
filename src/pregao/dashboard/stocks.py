"""The choice of a stock."""

from contextlib import suppress

import streamlit as st

from pregao.dashboard.language import say
from pregao.dashboard.state import cached, configuration
from pregao.errors import PregaoError
from pregao.prices.symbols import SAMPLES, SHARED, Symbol
from pregao.settings import settings
from pregao.tracking import registry

LAST = "last stock"
"""The session's key for the chosen stock: Streamlit drops the fields' keys when the page changes."""


def choose_stock() -> Symbol:
    """Show the field for the stock, which is the same on every page; any ticker may be typed.

    Raises:
        InvalidSymbol: the text is not a ticker.
    """
    previous = st.session_state.get("stock", st.session_state.get(LAST))
    if previous is not None and "stock" not in st.query_params:
        st.session_state["stock"] = previous
    chosen = st.selectbox(
        say("stock"), known_stocks(), key="stock", bind="query-params", accept_new_options=True, help=say("stock.help")
    )
    st.session_state[LAST] = chosen
    return Symbol.parse(str(chosen))


def known_stocks() -> list[str]:
    """The configured stock, then the samples and the stocks with local prices or a served model."""
    config = configuration()
    first = Symbol.parse(config.stock).ticker
    found = set(SAMPLES)
    for folder in (settings().data, config.source.path):
        if folder is not None and folder.is_dir():
            for file in folder.glob("*.csv"):
                with suppress(PregaoError):
                    found.add(Symbol.parse(file.stem).ticker)
    with suppress(PregaoError):  # prices can be shown without a registry
        found.update(cached("served stocks", registry.served_stocks))
    return [first, *sorted(found - {SHARED, first})]
