"""The choices of a training that an HTTP client may make: those of conf/ that are harmless, and every model's own."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from pregao.config import PositiveInt
from pregao.errors import InvalidChoice
from pregao.models.choices import TARGET, checked, choices_of, model_class
from pregao.training.compose import models
from pregao.training.config import Horizon, LearningRate, Lookback, Price, Promote, Seed, TrainConfig, WeightDecay

COMMON: dict[str, Any] = {
    "experiment": Literal["reference", "quickstart"],
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
"""What does not depend on the model; narrower than on the command line, where a long training can be wanted."""


class Overrides(BaseModel):
    """Hydra's names with their values; what is left out is as train.py has it.

    A model of another `data.lookback` than 20 or another `data.horizon` than 10 is registered, and not promoted.
    """

    # strict: no "64" for 64, no true for 1.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    def chosen(self) -> dict[str, Any]:
        """Those that were given."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


def overrides_class() -> type[Overrides]:
    """Overrides with a field for each choice; a choice of several models allows what any of them allows.

    Whether the chosen model has a choice, and allows its value, is checked with the composed configuration.
    """
    hints: dict[str, list[Any]] = {}
    for name in models():
        for choice, field in model_choices(name).model_fields.items():
            hints.setdefault(f"model.{choice}", []).append(_hint(field))
    fields = {"model": Literal[*models()], **{name: _either(found) for name, found in hints.items()}, **COMMON}
    optional: dict[str, Any] = {name: (hint | None, None) for name, hint in fields.items()}
    return create_model("Overrides", __base__=Overrides, __doc__=Overrides.__doc__, **optional)


def model_choices(name: str) -> type[BaseModel]:
    """The choices of a model of conf/model, as its constructor annotates them.

    Raises:
        InvalidChoice: the `_target_` of its file is not a model.
    """
    try:
        return choices_of(model_class(str(models()[name].get(TARGET))))
    except ValueError as error:
        raise InvalidChoice(f"conf/model/{name}.yaml: {error}.") from None


def usual_model(config: TrainConfig) -> str:
    """The name in conf/model of a configuration's model; the first one where its choices are no file's."""
    return next((name for name, choices in models().items() if checked(choices) == config.model), next(iter(models())))


def _hint(field: FieldInfo) -> Any:  # noqa: ANN401 - a type, as annotations have it
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _either(hints: Sequence[Any]) -> Any:  # noqa: ANN401 - the same
    if all(get_origin(hint) is Literal for hint in hints):
        return Literal[*(value for hint in hints for value in get_args(hint))]
    return Union[*(hint for place, hint in enumerate(hints) if hint not in hints[:place])]
