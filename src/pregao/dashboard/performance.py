"""Performance: forecasts against what came, errors beside the baselines', two runs side by side."""

from datetime import date
from typing import Any

import pandas as pd
import streamlit as st

from pregao.dashboard import charts, tables
from pregao.dashboard.language import day, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.runs import Choice, choices, judged, name_of
from pregao.dashboard.stocks import choose_stock
from pregao.evaluation.report import NAIVE, EvaluationTables
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.log import ForecastLog
from pregao.prices.symbols import Symbol
from pregao.settings import settings

FIGURES = ("mape", "skill_mape", "coverage_90", "coverage_80", "pinball", "rmse", "mae")
"""In the order of their use, since a telephone shows the first ones."""

LIVE = ("n", "mape", "naive_mape", "skill_mape", "coverage_90", "coverage_80", "rmse", "naive_rmse")
"""Of forecasts that were told."""


def main() -> None:
    """The page."""
    st.title(say("performance.title"))
    st.caption(say("performance.about"))
    symbol = choose_stock()
    with guarded():
        _runs(symbol)
    with guarded():
        _told(symbol)


def _runs(symbol: Symbol) -> None:
    """What judged the models."""
    found = choices(symbol)
    if not found:
        st.info(say("performance.nothing", stock=symbol), icon=":material/info:")
        return
    left, right = st.columns(2)
    first = left.selectbox(say("run"), found, format_func=name_of, key=f"first {symbol}")
    others: list[Choice | None] = [None, *(choice for choice in found if choice != first)]
    second = right.selectbox(
        say("compare"),
        others,
        format_func=lambda one: say("none") if one is None else name_of(one),
        key=f"second {symbol}",
    )
    with st.spinner(say("performance.wait")):
        own = judged(symbol, first)
        _figures(own)
        if second is not None:
            _side_by_side(symbol, own, name_of(first), second)
    _by_step(symbol, first)
    _per_step(own, symbol.currency)


def _figures(own: EvaluationTables) -> None:
    """The four figures that say how good it is, with their yardstick."""
    row, naive = (own.scores[own.scores["forecaster"] == name].iloc[0] for name in ("model", NAIVE))
    with tables.figures():
        st.metric("MAPE", f"{number(row['mape'], 3)} %", help=say("mape.help"), width="content")
        st.metric(say("naive_mape"), f"{number(naive['mape'], 3)} %", width="content")
        skill = f"{number(row['skill_mape'], 2, sign=True)} %"
        st.metric(say("skill"), skill, help=say("skill.help"), width="content")
        inside = f"{number(row['coverage_90'], 1)} %"
        st.metric(say("inside_90"), inside, help=say("coverage.help"), width="content")


@st.fragment
def _by_step(symbol: Symbol, chosen: Choice) -> None:
    """Drawn alone when the slider moves."""
    with guarded():
        own = judged(symbol, chosen)
        horizon = int(own.forecasts["step"].max())
        step = st.slider(say("step.choose"), 1, horizon, 1, key="step") if horizon > 1 else 1
        rows = own.at_step(step)
        st.subheader(say("against_actual"))
        st.altair_chart(charts.against_actual(rows, symbol.currency), key="against actual")
        left, right = st.columns(2)
        with left:
            st.subheader(say("residuals"))
            st.altair_chart(charts.residuals(rows), key="residuals")
        with right:
            st.subheader(say("spread"))
            st.altair_chart(charts.spread(rows), key="spread")
        st.subheader(say("at_step", step=step))
        steps = own.steps[own.steps["step"] == step].reset_index(drop=True)
        tables.show(steps[["forecaster", *FIGURES]], key="at step")


def _per_step(own: EvaluationTables, unit: str) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader(say("error_per_step"))
        st.altair_chart(charts.per_step(own.steps, "mape", "MAPE, %"), key="error per step")
    with right:
        st.subheader(say("coverage_per_step"))
        st.altair_chart(charts.per_step(own.steps, "coverage_90", say("inside_90_percent"), goal=90), key="coverage")
    st.subheader(say("all_steps"))
    tables.show(own.scores[["forecaster", *FIGURES]], key="scores")
    st.caption(say("baselines.about", unit=unit.replace("$", "\\$")))


def _side_by_side(symbol: Symbol, own: EvaluationTables, name: str, second: Choice) -> None:
    other = judged(symbol, second)
    both = {name: own, name_of(second): other}
    st.subheader(say("side_by_side"))
    rows = [
        {"run": run, **one.scores[one.scores["forecaster"] == who].iloc[0][["forecaster", *FIGURES]]}
        for run, one in both.items()
        for who in ("model", NAIVE)
    ]
    tables.show(pd.DataFrame(rows), key="side by side")
    steps = [
        one.steps[one.steps["forecaster"] == who].assign(forecaster=f"{run} · {who}")
        for run, one in both.items()
        for who in ("model", NAIVE)
    ]
    st.altair_chart(charts.per_step(pd.concat(steps), "mape", "MAPE, %"), key="both per step")
    windows = [set(one.forecasts["cutoff"]) for one in both.values()]
    if windows[0] != windows[1]:
        st.caption(say("other_windows"))


def _told(symbol: Symbol) -> None:
    """The memory of past forecasts, as GET /accuracy has it."""
    st.subheader(say("told"))
    log = ForecastLog(settings().forecasts_uri)
    entries = accuracy(log.outcomes(symbol.ticker)) if log.exists() else []
    if not entries:
        st.info(say("told.nothing", stock=symbol), icon=":material/info:")
        return
    st.caption(say("told.about", unit=symbol.currency.replace("$", "\\$")))
    names = [f"{entry['model']} · {entry['version']}" for entry in entries]
    versions = [
        {"version": name, "first": _day(entry["first"]), "last": _day(entry["last"]), **_live(entry)}
        for name, entry in zip(names, entries, strict=True)
    ]
    tables.show(pd.DataFrame(versions), key="told")
    newest = len(entries) - 1
    chosen = st.selectbox(
        say("told.version"), range(len(entries)), newest, format_func=names.__getitem__, key="version"
    )
    steps = entries[chosen]["steps"]
    tables.show(pd.DataFrame([{"step": one["step"], **_live(one)} for one in steps]), key="told by step")


def _live(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: scores[name] for name in LIVE}


def _day(iso: str) -> str:
    return day(date.fromisoformat(iso))


main()
