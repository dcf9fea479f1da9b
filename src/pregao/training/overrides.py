"""The settings that an HTTP client may override in a training: some of conf/, and those of each model."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic.fields import FieldInfo

from pregao.config import PositiveInt
from pregao.errors import InvalidChoice
from pregao.models.base import ForecastModel
from pregao.models.choices import TARGET, checked, choices_of, model_class
from pregao.training.compose import models
from pregao.training.config import LEAK, Horizon, LearningRate, Lookback, Price, Promote, Seed, TrainConfig, WeightDecay


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
    hints: dict[str, list[Any]] = {}
    for name in offered():
        for choice, field in model_choices(name).model_fields.items():
            hints.setdefault(f"model.{choice}", []).append(_hint(field))
    fields = {"model": Literal[*offered()], **{name: _either(found) for name, found in hints.items()}, **COMMON}
    optional: dict[str, Any] = {name: (hint | None, None) for name, hint in fields.items()}
    return create_model("Overrides", __base__=Overrides, __doc__=Overrides.__doc__, **optional)


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


def _class(name: str) -> type[ForecastModel]:
    try:
        return model_class(str(models()[name].get(TARGET)))
    except ValueError as error:
        raise InvalidChoice(f"conf/model/{name}.yaml: {error}.") from None


def model_name(config: TrainConfig) -> str:
    """The file name in conf/model with the model settings of this configuration; the first file if none matches."""
    return next((name for name in offered() if checked(models()[name]) == config.model), offered()[0])


def _hint(field: FieldInfo) -> Any:  # noqa: ANN401 - a type annotation
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _either(hints: Sequence[Any]) -> Any:  # noqa: ANN401 - a type annotation
    if all(get_origin(hint) is Literal for hint in hints):
        return Literal[*(value for hint in hints for value in get_args(hint))]
    return Union[*(hint for place, hint in enumerate(hints) if hint not in hints[:place])]
