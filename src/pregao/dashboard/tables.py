"""Tables with numbers in the language's format; the columns stay sortable."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pregao.dashboard.language import decimal, name_of_forecaster, say

DIGITS = {
    **dict.fromkeys(("rmse", "mae", "mape", "final_rmse", "final_mape", "naive_mape", "naive_rmse", "pinball"), 3),
    **dict.fromkeys(("skill_mape", "skill_rmse", "close", "lower_80", "upper_80", "lower_90", "upper_90"), 2),
    **dict.fromkeys(("coverage_80", "coverage_90", "seconds"), 1),
    **dict.fromkeys(("train_loss", "val_loss"), 4),
}
"""Decimals of each metric."""


def show(table: pd.DataFrame, *, key: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Show a table with translated headings."""
    if "forecaster" in table:
        table = table.assign(forecaster=[name_of_forecaster(name) for name in table["forecaster"]])
    formats: dict[Any, Any] = {name: f"{{:z,.{digits}f}}" for name, digits in DIGITS.items() if name in table}
    styled = table.style.format(formats, na_rep="–", **decimal())
    headings: dict[str, Any] = {str(name): st.column_config.Column(say(f"column.{name}")) for name in table}
    st.dataframe(styled, hide_index=True, column_config={**headings, **(config or {})}, key=key)


def download(table: pd.DataFrame, name: str, **to_csv: Any) -> None:  # noqa: ANN401 - pandas' own arguments
    """Show a button that downloads a table as NAME.csv."""
    csv = table.to_csv(index=False, float_format="%.6f", **to_csv)
    icon = ":material/download:"
    st.download_button(say("download"), csv, f"{name}.csv", "text/csv", icon=icon, on_click="ignore")


def metric_row() -> DeltaGenerator:
    """A row for metrics that wraps on a narrow screen."""
    return st.container(horizontal=True, gap="medium")
