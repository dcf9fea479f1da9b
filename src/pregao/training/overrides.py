"""The settings that an HTTP client may override in a training: some of conf/, and those of each model.

This module imports no model: the choices of the models are in `model_choices.json`.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from pregao.config import CONF, PositiveInt
from pregao.training.config import LEAK, Horizon, LearningRate, Lookback, Price, Promote, Seed, WeightDecay

CHOICES = Path(__file__).with_name("model_choices.json")
"""Written by `python -m pregao.training.model_choices`."""


def _without_a_leak(experiment: object) -> object:
    if experiment == "published":
        raise ValueError(f"experiment=published is refused: {LEAK}. Allowed: reference, quickstart")
    return experiment


COMMON: dict[str, Any] = {
    "experiment": Annotated[Literal["reference", "quickstart"], BeforeValidator(_without_a_leak)],
    "seed": Seed,
    "promote": Promote,
    "data.price": Price,
    "data.lookback": Lookback,
    "data.horizon": Horizon,
    "data.batch_size": Annotated[PositiveInt, Field(le=4096)],
    "optimizer.learning_rate": Annotated[LearningRate, Field(le=1)],
    "optimizer.weight_decay": Annotated[WeightDecay, Field(le=1)],
    "trainer.max_epochs": Annotated[PositiveInt, Field(le=1000)],
    "trainer.patience": Annotated[PositiveInt, Field(le=1000)],
}
"""Settings that do not depend on the model. The bounds are narrower than on the command line, to limit the duration."""

TYPES: dict[str, Any] = {"boolean": bool, "integer": int, "null": None, "number": float, "string": str}

BOUNDS = {
    "exclusiveMaximum": "lt",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "maxItems": "max_length",
    "minimum": "ge",
    "minItems": "min_length",
}
"""Names of bounds in JSON Schema and in pydantic."""


class Overrides(BaseModel):
    """Hydra keys with values; keys that are left out have the defaults of train.py.

    A model with `data.lookback` other than 20 or `data.horizon` other than 10 is registered but not promoted.
    """

    # strict: "64" is not accepted for 64, nor true for 1.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: Any) -> Any:  # noqa: ANN401 - the client's JSON
        """In JSON 3.0 is an integer, as its schema says; strict pydantic refuses it for one."""
        if not isinstance(given, dict):
            return given
        return {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in given.items()}

    def chosen(self) -> dict[str, Any]:
        """The overrides that were given."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


def overrides_class() -> type[Overrides]:
    """The class Overrides with one field per setting; a setting of several models allows the values of all of them.

    `train_config` checks later whether the chosen model has the setting and allows the value.
    """
    fields = {name: hint(schema) for name, schema in _model_choices().items()} | COMMON
    optional: dict[str, Any] = {name: (found | None, None) for name, found in fields.items()}
    return create_model("Overrides", __base__=Overrides, __doc__=Overrides.__doc__, **optional)


def hint(schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a type annotation
    """The type annotation whose JSON Schema this is: scalars, literals and lists of them, with bounds."""
    if "anyOf" in schema:
        return Union[*map(hint, schema["anyOf"])]
    if "enum" in schema:
        return Literal[*schema["enum"]]
    if "const" in schema:
        return Literal[schema["const"]]
    found = list[hint(schema["items"])] if schema["type"] == "array" else TYPES[schema["type"]]  # type: ignore[misc]
    bounds = {ours: schema[theirs] for theirs, ours in BOUNDS.items() if theirs in schema}
    return Annotated[found, Field(**bounds)] if bounds else found


def files_of_models() -> str:
    """SHA-256 of conf/model, by which `model_choices.json` is known to be current."""
    found = hashlib.sha256()
    for file in sorted((CONF / "model").glob("*.yaml")):
        found.update(f"{file.name}\n".encode() + file.read_bytes())
    return found.hexdigest()


def _model_choices() -> dict[str, Any]:
    """JSON Schema of `model` and of each `model.…`; another process reads the models if conf/model has changed."""
    found = json.loads(CHOICES.read_text(encoding="utf-8"))
    if found["conf"] != files_of_models():
        command = [sys.executable, "-m", "pregao.training.model_choices", "print"]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    choices: dict[str, Any] = found["choices"]
    return choices
