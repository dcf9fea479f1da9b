"""The model class of a configuration (`_target_`), and its choices from the constructor's annotations.

A configuration may come from HTTP or from a registry, so it cannot name arbitrary code: `_target_` is a subclass of
`ForecastModel` inside `pregao.models`, or an entry point of the group `pregao.models` of an installed package.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from pregao.models.base import ForecastModel

TARGET = "_target_"

GROUP = "pregao.models"
"""Both the package of our models and the entry-point group of other packages' models."""

FROM_DATA = ("horizon", "inputs", "lookback", "stocks")
"""Constructor arguments that depend on the data and are not choices."""

_OLD_CLASSES = {"window": "pregao.models.recurrent.RecurrentModel", "none": "pregao.models.absolute.AbsoluteModel"}
"""Classes by `scaling`, the key that named the model in version 0.1."""


@cache
def model_class(target: str) -> type[ForecastModel]:
    """The class that a `_target_` names.

    Raises:
        ValueError: it is not a model; the message says what is allowed.
    """
    allowed = f"allowed is a ForecastModel in {GROUP}, or an entry point of the group {GROUP}"
    module, _, name = target.rpartition(".")
    offered = any(f"{module}:{name}" == entry.value for entry in entry_points(group=GROUP))
    if not offered and not module.startswith(f"{GROUP}."):
        raise ValueError(f"{target[:80]!r} is not a model; {allowed}")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{target[:80]!r} cannot be imported ({error}); {allowed}") from None
    if not (isinstance(found, type) and issubclass(found, ForecastModel)) or inspect.isabstract(found):
        raise ValueError(f"{target[:80]!r} is not a model; {allowed}")
    if found.__module__ != module:
        raise ValueError(f"{target[:80]!r} is imported there from another module; {allowed}")
    return found


@cache
def choices_of(model: type[ForecastModel]) -> type[BaseModel]:
    """The choices of a model as a pydantic class: names, bounds and defaults of its constructor."""
    hints = get_type_hints(model.__init__, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if given.default is inspect.Parameter.empty else given.default)
        for name, given in list(inspect.signature(model.__init__).parameters.items())[1:]
        if name not in FROM_DATA
    }
    return create_model(
        model.__name__, __config__=ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=()), **fields
    )


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of a configuration, `_target_` first, with the defaults of the model's constructor.

    Raises:
        ValueError: `_target_` is not a model, or a choice is not allowed (pydantic's ValidationError).
    """
    given = with_current_names(given)
    if not isinstance(given.get(TARGET), str):
        raise ValueError(f"{TARGET} is missing: choose a model of conf/model, as in model=lstm")
    choices = choices_of(model_class(given[TARGET]))
    values = choices.model_validate({name: value for name, value in given.items() if name != TARGET})
    return {TARGET: given[TARGET], **values.model_dump()}


def with_data(choices: Mapping[str, Any], **from_data: object) -> dict[str, Any]:
    """All arguments of a model: its choices, and those of `FROM_DATA` that its constructor takes.

    Raises:
        ValueError: `_target_` is not a model, or a choice is not allowed.
    """
    chosen = checked(choices)
    taken = inspect.signature(model_class(chosen[TARGET]).__init__).parameters
    return chosen | {name: value for name, value in from_data.items() if name in taken}


def build_model(network: Mapping[str, Any]) -> ForecastModel:
    """The untrained model from all its arguments, as `with_data` returns them and as a card stores them.

    Raises:
        ValueError: `_target_` is not a model.
        TypeError: an argument is missing or unknown.
    """
    arguments = with_current_names(network)
    return model_class(arguments.pop(TARGET))(**arguments)


def as_params(network: Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments under MLflow's parameter names."""
    arguments = with_current_names(network)
    return {"model": arguments.pop(TARGET), **arguments}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The arguments in which two models differ, defaults included, as a sentence; empty if they are the same."""
    ours, theirs = _complete(one), _complete(other)
    names = [name for name in (*ours, *(theirs.keys() - ours.keys())) if ours.get(name) != theirs.get(name)]
    return ", ".join(f"{name} is {ours.get(name)}, not {theirs.get(name)}" for name in names)


def _complete(network: Mapping[str, Any]) -> dict[str, Any]:
    from_data = {name: value for name, value in network.items() if name in FROM_DATA}
    from_data.pop("stocks", None)  # a stock's model starts from the model of many
    return checked({name: value for name, value in network.items() if name not in FROM_DATA}) | from_data


def with_new_choices(given: Mapping[str, Any]) -> dict[str, Any]:
    """Choices of an older version in this version's names, with the defaults of choices that it did not have."""
    named = with_current_names(given)
    fields = choices_of(model_class(str(named.get(TARGET)))).model_fields
    return {name: field.default for name, field in fields.items() if not field.is_required()} | named


def with_current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Choices in this version's names; version 0.1 had `scaling` for `_target_`, and null for an absent choice."""
    scaling = given.get("scaling")
    if scaling not in _OLD_CLASSES or TARGET in given:
        return dict(given)
    return {TARGET: _OLD_CLASSES[str(scaling)]} | {
        name: value for name, value in given.items() if name != "scaling" and value is not None
    }
