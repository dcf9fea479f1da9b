"""The choices of the models of conf/model, from the constructors' annotations.

python -m pregao.training.model_choices          writes model_choices.json, which a server reads without PyTorch
"""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo

from pregao.errors import InvalidChoice
from pregao.models.base import ForecastModel
from pregao.models.choices import TARGET, checked, choices_of, model_class
from pregao.training.compose import models
from pregao.training.config import TrainConfig
from pregao.training.overrides import CHOICES, files_of_models


def offered() -> list[str]:
    """The files of conf/model that a client may train: models that may be served.

    Raises:
        InvalidChoice: the `_target_` in a file is not a model.
    """
    return [name for name in models() if _class(name).served]


def model_choices(name: str) -> type[BaseModel]:
    """The settings of a model of conf/model, as annotated in its constructor.

    Raises:
        InvalidChoice: the `_target_` in its file is not a model.
    """
    return choices_of(_class(name))


def model_name(config: TrainConfig) -> str:
    """The file name in conf/model with the model settings of this configuration; the first file if none matches."""
    return next((name for name in offered() if checked(models()[name]) == config.model), offered()[0])


def choices_as_schema() -> dict[str, Any]:
    """JSON Schema of `model` and of each `model.…`, by name; a choice of several models allows the values of all."""
    hints: dict[str, list[Any]] = {}
    for name in offered():
        for choice, field in model_choices(name).model_fields.items():
            hints.setdefault(f"model.{choice}", []).append(_hint(field))
    fields: dict[str, Any] = {"model": (Literal[*offered()], ...)}
    fields |= {name: (_either(found), ...) for name, found in hints.items()}
    found = create_model("Choices", __config__={"protected_namespaces": ()}, **fields).model_json_schema()
    schemas: dict[str, Any] = found["properties"]
    return {name: {key: value for key, value in one.items() if key != "title"} for name, one in schemas.items()}


def as_json() -> str:
    """The content of model_choices.json."""
    return json.dumps({"conf": files_of_models(), "choices": choices_as_schema()}, indent=1) + "\n"


def _class(name: str) -> type[ForecastModel]:
    try:
        return model_class(str(models()[name].get(TARGET)))
    except ValueError as error:
        raise InvalidChoice(f"conf/model/{name}.yaml: {error}.") from None


def _hint(field: FieldInfo) -> Any:  # noqa: ANN401 - a type annotation
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _either(hints: Sequence[Any]) -> Any:  # noqa: ANN401 - a type annotation
    if all(get_origin(hint) is Literal for hint in hints):
        return Literal[*(value for hint in hints for value in get_args(hint))]
    return Union[*(hint for place, hint in enumerate(hints) if hint not in hints[:place])]


if __name__ == "__main__":
    if sys.argv[1:] == ["print"]:
        sys.stdout.write(as_json())
    else:
        CHOICES.write_text(as_json(), encoding="utf-8")
