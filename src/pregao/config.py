"""What Hydra composed, checked and typed. No default lives here: hyper-parameters are conf/'s alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pregao.errors import InvalidChoice

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
# Hydra reads an unquoted 20200101 as a number; the date's own parser shall refuse it, with a sentence.
Text = Annotated[str, BeforeValidator(str)]


class _Choices(BaseModel):
    # protected_namespaces: `model` is the name of a group here, not of pydantic's.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SourceChoices(_Choices):
    """Where prices come from."""

    name: str
    path: Path | None


class ModelChoices(_Choices):
    """The network, and the loss that it learns by."""

    scaling: Literal["window", "none"]
    cell: Literal["lstm", "gru"]
    hidden_size: Annotated[int, Field(gt=0, le=4096)]
    num_layers: Annotated[int, Field(gt=0, le=16)]
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    shrinkage: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None  # only scaling=window has it
    loss: Literal["mae", "mse"]

    @model_validator(mode="after")
    def _shrinkage_belongs_to_window_scaling(self) -> "ModelChoices":
        if (self.scaling == "window") != (self.shrinkage is not None):
            raise ValueError("shrinkage belongs to scaling=window alone: choose model=lstm or model=absolute")
        return self

    def network(self, horizon: int) -> dict[str, Any]:
        """The arguments of `build_network`."""
        return {"horizon": horizon, **self.model_dump(exclude={"loss"}, exclude_none=True)}


class OptimizerChoices(_Choices):
    """Adam's settings."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainerChoices(_Choices):
    """How long to train and on what; any further key (`+trainer.…`) is pytorch_lightning.Trainer's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    threads: PositiveInt
    max_epochs: PositiveInt
    patience: PositiveInt | None


class DataChoices(_Choices):
    """Windows and the basis of their prices."""

    lookback: Annotated[int, Field(ge=2, le=1000)]
    horizon: Annotated[int, Field(gt=0, le=250)]
    price: Literal["adjusted", "close"]
    batch_size: PositiveInt


class EvaluationChoices(_Choices):
    """How the windows are divided."""

    split: Literal["date", "reference"]
    train: Fraction
    validation: Fraction

    @model_validator(mode="after")
    def _a_test_part_remains(self) -> "EvaluationChoices":
        if self.train + self.validation >= 1:
            raise ValueError(f"train={self.train} and validation={self.validation} leave no test part; their sum < 1")
        return self


class TrainConfig(_Choices):
    """Everything that decides a training run."""

    stock: Text
    start: Text
    end: Text | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    promote: Literal["auto", "always", "never"]
    ckpt_path: Path | None
    source: SourceChoices
    data: DataChoices
    model: ModelChoices
    optimizer: OptimizerChoices
    evaluation: EvaluationChoices
    trainer: TrainerChoices


class PredictConfig(_Choices):
    """Everything that decides a forecast."""

    stock: Text
    closes: list[Any] | None
    format: Literal["table", "json"]
    source: SourceChoices


Choices = TypeVar("Choices", TrainConfig, PredictConfig)


def parse(kind: type[Choices], composed: DictConfig | Mapping[str, Any]) -> Choices:
    """Check a composed configuration.

    Raises:
        InvalidChoice: names every key that is not allowed, what was given and what is allowed.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True) if isinstance(composed, DictConfig) else composed
        return kind.model_validate(values)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {_wanted(e['msg'])}" for e in error.errors()]
        raise InvalidChoice(f"{'; '.join(found)}. The choices and their meaning: --help, or conf/.") from None
    except OmegaConfBaseException as error:
        raise InvalidChoice(f"The configuration does not resolve: {error}. The choices: --help, or conf/.") from None


def _wanted(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "should be")
