"""Experiments: all runs of MLflow, their parameters and losses, and which ones are served."""

from typing import Any

import pandas as pd
import streamlit as st

from pregao.dashboard import charts, tables
from pregao.dashboard.language import say
from pregao.dashboard.state import cached, configuration
from pregao.tracking import registry
from pregao.tracking.run_table import table
from pregao.tracking.runs import history as logged_history

SERVED = "served"
METRICS = ("final_mape", "naive_mape", "skill_mape", "coverage_90", "pinball")
COLUMNS = (SERVED, "stock", "started", "link", "status", *METRICS, "seconds", "run_id")
INTERNAL = "mlflow."
"""The prefix of MLflow's internal tags."""


def main() -> None:
    """Show the page."""
    st.title(say("experiments.title"))
    st.caption(say("experiments.about"))
    st.link_button(say("mlflow"), configuration().mlflow, icon=":material/open_in_new:", help=say("mlflow.help"))
    runs = _runs()
    if runs.empty:
        st.info(say("experiments.nothing"), icon=":material/info:")
        return
    all_stocks = say("every_stock")
    chosen = st.selectbox(say("stock"), [all_stocks, *sorted(runs["stock"].unique())], key="experiment")
    runs = runs if chosen == all_stocks else runs[runs["stock"] == chosen]
    _table(runs)
    _details(runs)


def _runs() -> pd.DataFrame:
    runs = table()
    served = {run_id for _, run_id in registry.champions().values()}
    address = configuration().mlflow
    missing = [name for name in METRICS if name not in runs]
    return runs.assign(**dict.fromkeys(missing, float("nan"))).assign(
        served=["★" if run_id in served else "" for run_id in runs["run_id"]],
        link=[
            f"{address}/#/experiments/{experiment}/runs/{run}"
            for experiment, run in zip(runs["experiment_id"], runs["run_id"], strict=True)
        ],
    )


def _table(runs: pd.DataFrame) -> None:
    # Without a time zone: the heading says UTC, and a browser would convert it to local time.
    shown = runs[list(COLUMNS)].assign(run_id=runs["run_id"].str[:8], started=runs["started"].dt.tz_localize(None))
    config = {
        "link": st.column_config.LinkColumn(say("column.link"), display_text="MLflow"),
        "started": st.column_config.DatetimeColumn(say("column.started"), format="YYYY-MM-DD HH:mm"),
    }
    tables.show(shown, key="runs", config=config)
    st.caption(say("experiments.count", count=len(runs), served=int((runs[SERVED] != "").sum())))


def _details(runs: pd.DataFrame) -> None:
    names = {row["run_id"]: _name(row) for row in runs.to_dict("records")}
    run_id = st.selectbox(say("run"), list(names), format_func=names.__getitem__, key="run")
    row = runs[runs["run_id"] == run_id].iloc[0]
    history = cached("losses", lambda: logged_history(run_id), run_id, row["status"])
    left, right = st.columns(2)
    with left:
        st.subheader(say("losses"))
        if history:
            st.altair_chart(charts.losses(history), key="losses")
        else:
            st.info(say("no_losses"), icon=":material/info:")
    with right:
        st.subheader(say("parameters"))
        values = row.drop([*COLUMNS, "experiment_id"]).dropna()
        values = values[[not str(name).startswith(INTERNAL) for name in values.index]]
        shown = pd.DataFrame({"name": values.index, "value": [_text(value) for value in values]})
        tables.show(shown, key="parameters")


def _name(row: dict[Any, Any]) -> str:
    return f"{row[SERVED]} {row['stock']} · {row['started']:%Y-%m-%d %H:%M} UTC · {str(row['run_id'])[:8]}".strip()


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


main()
