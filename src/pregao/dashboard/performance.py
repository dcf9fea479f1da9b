"""Performance: forecasts against what came, errors beside the baselines', two runs side by side."""

from datetime import date

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
    """The four main scores, with the naive baseline's error."""
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
        _pair({"residuals": charts.residuals(rows), "spread": charts.spread(rows)})
        st.subheader(say("at_step", step=step))
        steps = own.steps[own.steps["step"] == step].reset_index(drop=True)
        tables.show(steps[["forecaster", *FIGURES]], key="at step")


def _per_step(own: EvaluationTables, unit: str) -> None:
    coverage = charts.per_step(own.steps, "coverage_90", say("inside_90_percent"), goal=90)
    _pair({"error_per_step": charts.per_step(own.steps, "mape", "MAPE, %"), "coverage_per_step": coverage})
    st.subheader(say("all_steps"))
    tables.show(own.scores[["forecaster", *FIGURES]], key="scores")
    st.caption(say("baselines.about", unit=unit.replace("$", "\\$")))


def _pair(drawn: dict[str, charts.Drawn]) -> None:
    """Two charts in one row, under the headings of their keys."""
    for place, (name, chart) in zip(st.columns(2), drawn.items(), strict=True):
        place.subheader(say(name))
        place.altair_chart(chart, key=name)


def _side_by_side(symbol: Symbol, own: EvaluationTables, name: str, second: Choice) -> None:
    other = judged(symbol, second)
    st.subheader(say("side_by_side"))
    rows: list[pd.DataFrame] = []
    steps: list[pd.DataFrame] = []
    for run, one in {name: own, name_of(second): other}.items():
        for who in ("model", NAIVE):
            rows.append(one.scores[one.scores["forecaster"] == who].assign(run=run))
            steps.append(one.steps[one.steps["forecaster"] == who].assign(forecaster=f"{run} · {who}"))
    scores = pd.concat(rows, ignore_index=True)[["run", "forecaster", *FIGURES]]
    tables.show(scores, key="side by side")
    st.altair_chart(charts.per_step(pd.concat(steps), "mape", "MAPE, %"), key="both per step")
    if set(own.forecasts["cutoff"]) != set(other.forecasts["cutoff"]):
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
    versions = pd.DataFrame(entries).assign(version=names)
    for end in ("first", "last"):
        versions[end] = [day(date.fromisoformat(iso)) for iso in versions[end]]
    tables.show(versions[["version", "first", "last", *LIVE]], key="told")
    places = range(len(entries))
    chosen = st.selectbox(say("told.version"), places, places[-1], format_func=names.__getitem__, key="version")
    tables.show(pd.DataFrame(entries[chosen]["steps"])[["step", *LIVE]], key="told by step")


main()
