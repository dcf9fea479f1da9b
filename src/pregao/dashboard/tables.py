"""Tables of figures with the language's decimal signs; the columns stay sortable."""

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
"""By the names that the package gives its figures."""


def show(table: pd.DataFrame, *, key: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """A table under the language's headings."""
    if "forecaster" in table:
        table = table.assign(forecaster=[name_of_forecaster(name) for name in table["forecaster"]])
    digits = {name: count for name, count in DIGITS.items() if name in table}
    styled = table.style.format({name: _signs(count) for name, count in digits.items()}, na_rep="–", **decimal())
    headings: dict[str, Any] = {str(name): st.column_config.Column(say(f"column.{name}")) for name in table}
    st.dataframe(styled, hide_index=True, column_config={**headings, **(config or {})}, key=key)


def figures() -> DeltaGenerator:
    """A row of metrics that goes on in the next line where it is narrow."""
    return st.container(horizontal=True, gap="medium")


def _signs(count: int) -> str:
    return f"{{:z,.{count}f}}"
