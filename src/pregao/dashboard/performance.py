"""Performance: forecasts and actual closes, errors of the model and the baselines, two runs side by side."""

from datetime import date

import pandas as pd
import streamlit as st

from pregao.dashboard import charts, tables
from pregao.dashboard.language import day, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.runs import RunOption, evaluation, label, run_options
from pregao.dashboard.stocks import choose_stock
from pregao.evaluation.report import NAIVE, EvaluationTables
from pregao.forecasting.accuracy import accuracy
from pregao.forecasting.log import ForecastLog
from pregao.prices.symbols import Symbol
from pregao.settings import settings

METRICS = ("mape", "skill_mape", "coverage_90", "coverage_80", "pinball", "rmse", "mae")
"""The most used first: a narrow screen shows these only."""

LIVE_METRICS = ("n", "mape", "naive_mape", "skill_mape", "coverage_90", "coverage_80", "rmse", "naive_rmse")
"""Columns of past forecasts."""


def main() -> None:
    """Show the page."""
    st.title(say("performance.title"))
    st.caption(say("performance.about"))
    symbol = choose_stock()
    with guarded():
        _runs(symbol)
    with guarded():
        _past_forecasts(symbol)


def _runs(symbol: Symbol) -> None:
    """Evaluations of one or two runs."""
    found = run_options(symbol)
    if not found:
        st.info(say("performance.nothing", stock=symbol), icon=":material/info:")
        return
    left, right = st.columns(2)
    first = left.selectbox(say("run"), found, format_func=label, key=f"first {symbol}")
    others: list[RunOption | None] = [None, *(option for option in found if option != first)]
    second = right.selectbox(
        say("compare"),
        others,
        format_func=lambda option: say("none") if option is None else label(option),
        key=f"second {symbol}",
    )
    with st.spinner(say("performance.wait")):
        tables_of_run = evaluation(symbol, first)
        _main_metrics(tables_of_run)
        if second is not None:
            _side_by_side(symbol, tables_of_run, label(first), second)
    _by_step(symbol, first)
    _per_step(tables_of_run, symbol.currency)


def _main_metrics(evaluated: EvaluationTables) -> None:
    """The four main scores, with the naive baseline's error."""
    row, naive = (evaluated.scores[evaluated.scores["forecaster"] == name].iloc[0] for name in ("model", NAIVE))
    with tables.metric_row():
        st.metric("MAPE", f"{number(row['mape'], 3)} %", help=say("mape.help"), width="content")
        st.metric(say("naive_mape"), f"{number(naive['mape'], 3)} %", width="content")
        skill = f"{number(row['skill_mape'], 2, sign=True)} %"
        st.metric(say("skill"), skill, help=say("skill.help"), width="content")
        inside = f"{number(row['coverage_90'], 1)} %"
        st.metric(say("inside_90"), inside, help=say("coverage.help"), width="content")


@st.fragment
def _by_step(symbol: Symbol, option: RunOption) -> None:
    """A fragment: only this part reruns when the slider moves."""
    with guarded():
        evaluated = evaluation(symbol, option)
        horizon = int(evaluated.forecasts["step"].max())
        step = st.slider(say("step.choose"), 1, horizon, 1, key="step") if horizon > 1 else 1
        rows = evaluated.at_step(step)
        st.subheader(say("against_actual"))
        st.altair_chart(charts.against_actual(rows, symbol.currency), key="against actual")
        _pair({"residuals": charts.residuals(rows), "histogram": charts.histogram(rows)})
        st.subheader(say("at_step", step=step))
        steps = evaluated.steps[evaluated.steps["step"] == step].reset_index(drop=True)
        tables.show(steps[["forecaster", *METRICS]], key="at step")


def _per_step(evaluated: EvaluationTables, unit: str) -> None:
    coverage = charts.per_step(evaluated.steps, "coverage_90", say("inside_90_percent"), target=90)
    _pair({"error_per_step": charts.per_step(evaluated.steps, "mape", "MAPE, %"), "coverage_per_step": coverage})
    st.subheader(say("all_steps"))
    tables.show(evaluated.scores[["forecaster", *METRICS]], key="scores")
    st.caption(say("baselines.about", unit=unit.replace("$", "\\$")))


def _pair(pair: dict[str, charts.AnyChart]) -> None:
    """Two charts in one row; their keys are those of their headings in SENTENCES."""
    for column, (name, chart) in zip(st.columns(2), pair.items(), strict=True):
        column.subheader(say(name))
        column.altair_chart(chart, key=name)


def _side_by_side(symbol: Symbol, evaluated: EvaluationTables, name: str, second: RunOption) -> None:
    other = evaluation(symbol, second)
    st.subheader(say("side_by_side"))
    rows: list[pd.DataFrame] = []
    steps: list[pd.DataFrame] = []
    for run, one in {name: evaluated, label(second): other}.items():
        for forecaster in ("model", NAIVE):
            rows.append(one.scores[one.scores["forecaster"] == forecaster].assign(run=run))
            steps.append(one.steps[one.steps["forecaster"] == forecaster].assign(forecaster=f"{run} · {forecaster}"))
    scores = pd.concat(rows, ignore_index=True)[["run", "forecaster", *METRICS]]
    tables.show(scores, key="side by side")
    st.altair_chart(charts.per_step(pd.concat(steps), "mape", "MAPE, %"), key="both per step")
    if set(evaluated.forecasts["cutoff"]) != set(other.forecasts["cutoff"]):
        st.caption(say("other_windows"))


def _past_forecasts(symbol: Symbol) -> None:
    """The accuracy of logged forecasts, as GET /accuracy returns it."""
    st.subheader(say("past"))
    log = ForecastLog(settings().forecasts_uri)
    entries = accuracy(log.outcomes(symbol.ticker)) if log.exists() else []
    if not entries:
        st.info(say("past.nothing", stock=symbol), icon=":material/info:")
        return
    st.caption(say("past.about", unit=symbol.currency.replace("$", "\\$")))
    names = [f"{entry['model']} · {entry['version']}" for entry in entries]
    versions = pd.DataFrame(entries).assign(version=names)
    for end in ("first", "last"):
        versions[end] = [day(date.fromisoformat(iso)) for iso in versions[end]]
    tables.show(versions[["version", "first", "last", *LIVE_METRICS]], key="past")
    positions = range(len(entries))
    chosen = st.selectbox(say("past.version"), positions, positions[-1], format_func=names.__getitem__, key="version")
    tables.show(pd.DataFrame(entries[chosen]["steps"])[["step", *LIVE_METRICS]], key="past by step")


main()
