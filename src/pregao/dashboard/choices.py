"""Input fields for the choices of a model, from the annotations of its constructor."""

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pregao.dashboard.language import help_of_choice, name_of_choice
from pregao.training.model_choices import model_choices

Schema = Mapping[str, Any]
"""The JSON schema of a choice: its type and bounds, or its allowed values."""


def model_fields(model: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Show a field for each choice of a model, and return the values by Hydra key.

    Choices that are not int, float, bool or Literal, or that allow one value only, get no field and keep their value
    of conf/.

    Args:
        model: a file of conf/model.
        defaults: the initial value of each choice.
    """
    schemas: dict[str, Schema] = model_choices(model).model_json_schema()["properties"]
    shown = {name: schema for name, schema in schemas.items() if "enum" in schema or schema.get("type") in _TYPES}
    columns = field_columns()
    return {f"model.{name}": _field(next(columns), name, schema, defaults[name]) for name, schema in shown.items()}


def field_columns() -> Iterator[DeltaGenerator]:
    """Columns for fields, three per row, without end."""
    while True:
        yield from st.columns(3)


_TYPES = {"boolean": bool, "integer": int, "number": float}


def _field(column: DeltaGenerator, name: str, schema: Schema, value: Any) -> Any:  # noqa: ANN401 - a choice's value
    label, tooltip = name_of_choice(name), help_of_choice(name)
    if "enum" in schema:
        return column.selectbox(label, schema["enum"], schema["enum"].index(value), help=tooltip)
    kind = _TYPES[schema["type"]]
    if kind is bool:
        return column.toggle(label, value, help=tooltip)
    step, style = (1, "%d") if kind is int else (_step(value), "%g")
    low, high = (None if bound is None else kind(bound) for bound in _bounds(schema, 1 if kind is int else 0))
    return column.number_input(label, low, high, kind(value), step=step, format=style, help=tooltip)


def _step(value: float) -> float:
    return 0.05 if value == 0 or abs(value) >= 0.05 else abs(value) / 10


def _bounds(schema: Schema, step: int) -> tuple[float | None, float | None]:
    """Minimum and maximum; an exclusive bound moves inward by `step`.

    `step` is 0 for a float: its exclusive bound can be entered, and the training refuses it.
    """
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    return low, high
