"""Prices: closes or candles of a stock, its volume, and the parts of a training run."""

import pandas as pd
import streamlit as st

from pregao.dashboard import charts
from pregao.dashboard.language import choose, day, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.state import cached, prices, training_defaults
from pregao.dashboard.stocks import choose_stock
from pregao.dashboard.tables import download, metric_row
from pregao.data.panel import build_panel
from pregao.data.windows import day as day_of
from pregao.errors import PregaoError, sentence_for_clients
from pregao.prices.downloader import Prices
from pregao.prices.symbols import Symbol
from pregao.prices.table import PriceBasis, last_day

RANGES = {"month": 1, "half": 6, "year": 12, "five": 60, "all": None, "dates": None}
"""Months of each range; None for a range that is not a number of months."""


def main() -> None:
    """Show the page."""
    st.title(say("prices.title"))
    st.caption(say("prices.about"))
    symbol = choose_stock()
    adjusted = st.toggle(say("adjusted"), value=True, help=say("adjusted.help"), key="adjusted")
    basis: PriceBasis = "adjusted" if adjusted else "close"
    with st.spinner(say("prices.wait")):
        found = prices(symbol, basis)
    _summary(found)
    _chart(symbol, basis)
    _download_and_notes(found)


def _summary(found: Prices) -> None:
    table, unit = found.table, found.symbol.currency
    last, previous = table["close"].iloc[-1], table["close"].iloc[-2] if len(table) > 1 else float("nan")
    change = number(100 * (last / previous - 1), 2, sign=True)
    with metric_row():
        st.metric(f"{say('last_close')}, {unit}".replace("$", "\\$"), number(last), f"{change} %", width="content")
        st.metric(say("as_of"), day(found.as_of), width="content")
        st.metric(say("sessions"), number(len(table), 0), width="content")
        st.metric(say("source"), say(f"source.{found.source}"), width="content")
    if found.stale:
        st.warning(say("stale", day=day(found.as_of)), icon=":material/history:")


@st.fragment
def _chart(symbol: Symbol, basis: PriceBasis) -> None:
    """A fragment: only this part reruns when a range is chosen."""
    with guarded():
        found = prices(symbol, basis)
        left, right = st.columns([3, 1])
        with left:
            chosen = choose("range", list(RANGES), "year", key="range")
        with right:
            style = choose("style", ["closes", "candles"], "closes", key="style")
        table = _cut(found.table, chosen)
        parts = _parts(found, basis)
        complete = table[["open", "high", "low"]].notna().all(axis=None)
        if style == "candles" and not complete:
            st.info(say("no_candles"), icon=":material/info:")
        draw = charts.candles if style == "candles" and complete else charts.closes
        st.altair_chart(draw(table, found.symbol.currency, parts), key="chart")
        if table["volume"].notna().any():
            st.altair_chart(charts.volume(table), key="volume")
        if parts:
            st.caption(say("parts.about", start=day(parts["train"][0])))


def _cut(table: pd.DataFrame, chosen: str) -> pd.DataFrame:
    first, last = table["date"].iloc[0], table["date"].iloc[-1]
    if chosen == "dates" and first < last:
        ends = (first.date(), last.date())
        ends = st.slider(say("range.dates"), *ends, ends, format="DD/MM/YYYY", key="days")
        return table[table["date"].between(pd.Timestamp(ends[0]), pd.Timestamp(ends[1]))]
    months = RANGES[chosen]
    return table if months is None else table[table["date"] >= last - pd.DateOffset(months=months)]


def _parts(found: Prices, basis: PriceBasis) -> charts.Parts:
    """The parts of a training run with the default choices; empty if the history is too short for one."""
    try:
        return cached("parts", lambda: _split(found), found.symbol.ticker, basis, str(found.as_of))
    except PregaoError:
        return {}


def _split(found: Prices) -> charts.Parts:
    config = training_defaults(found.symbol)
    begin, end = config.dates
    days = found.table["date"]
    table = found.table[days.between(pd.Timestamp(begin), pd.Timestamp(end or found.as_of))].reset_index(drop=True)
    tables, data = {found.symbol.ticker: table}, config.data
    rule = config.evaluation.rule
    panel = build_panel(tables, data.lookback, data.horizon, data.inputs, rule)
    validation, test = map(day_of, panel.borders)
    return {"train": (begin, validation), "validation": (validation, test), "test": (test, last_day(table))}


def _download_and_notes(found: Prices) -> None:
    download(found.table, str(found.symbol), date_format="%Y-%m-%d")
    if found.warnings:
        with st.expander(say("notes", count=len(found.warnings))):
            for warning in found.warnings:
                st.text(sentence_for_clients(warning))


main()
