"""Fields for the choices of a model, as the annotations of its constructor describe them."""

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pregao.dashboard.language import help_of_choice, name_of_choice
from pregao.training.overrides import model_choices

Schema = Mapping[str, Any]
"""The JSON schema of a choice: its type and bounds, or the values that are allowed."""


def model_fields(model: str, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Show a field for each choice of a model, and return the values under Hydra's names.

    A choice of another type than int, float, bool and Literal, or of one value only, keeps the value of conf/.

    Args:
        model: a name of conf/model.
        usual: the values that the fields start with, by choice.
    """
    schemas: dict[str, Schema] = model_choices(model).model_json_schema()["properties"]
    shown = {name: schema for name, schema in schemas.items() if "enum" in schema or schema.get("type") in _TYPES}
    place = places()
    return {f"model.{name}": _field(next(place), name, schema, usual[name]) for name, schema in shown.items()}


def places() -> Iterator[DeltaGenerator]:
    """Places for fields, three in a row."""
    while True:
        yield from st.columns(3)


_TYPES = {"boolean": bool, "integer": int, "number": float}


def _field(place: DeltaGenerator, name: str, schema: Schema, value: Any) -> Any:  # noqa: ANN401 - a choice's value
    label, about = name_of_choice(name), help_of_choice(name)
    if "enum" in schema:
        return place.selectbox(label, schema["enum"], schema["enum"].index(value), help=about)
    kind = _TYPES[schema["type"]]
    if kind is bool:
        return place.toggle(label, value, help=about)
    step, style = (1, "%d") if kind is int else (_step(value), "%g")
    low, high = (None if bound is None else kind(bound) for bound in _bounds(schema, 1 if kind is int else 0))
    return place.number_input(label, low, high, kind(value), step=step, format=style, help=about)


def _step(value: float) -> float:
    return 0.05 if value == 0 or abs(value) >= 0.05 else abs(value) / 10


def _bounds(schema: Schema, past: int) -> tuple[float | None, float | None]:
    """The least and the greatest value; `past` is the distance from a bound that is excluded.

    The excluded bound of a fraction can be typed, and is refused in a sentence.
    """
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + past
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - past
    return low, high
