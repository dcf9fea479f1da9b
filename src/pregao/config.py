"""What Hydra composed, checked and typed. No default lives here: hyper-parameters are conf/'s alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pregao.errors import InvalidChoice

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.01, le=0.98, allow_inf_nan=False)]


def _as_typed(given: object) -> str:
    # Hydra reads an unquoted 20200101 as a number; the date's own parser shall refuse it, with a sentence.
    if given is None:
        raise ValueError("should be a text")
    return str(given)


Text = Annotated[str, BeforeValidator(_as_typed)]


def _not_empty(given: object) -> object:
    if given == "":  # Path("") would be the current folder
        raise ValueError("should be a path, or null for none")
    return given


GivenPath = Annotated[Path, BeforeValidator(_not_empty)]


def _none_for_auto(given: object) -> object:
    return None if given == "auto" else given


class _Choices(BaseModel):
    # protected_namespaces: `model` is the name of a group here, not of pydantic's.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SourceChoices(_Choices):
    """Where prices come from."""

    name: str
    path: GivenPath | None


class ModelChoices(_Choices):
    """The network, and the loss that it learns by."""

    scaling: Literal["window", "none"]
    cell: Literal["lstm", "gru"]
    hidden_size: Annotated[int, Field(gt=0, le=4096)]
    num_layers: Annotated[int, Field(gt=0, le=16)]
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    shrinkage: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None  # only scaling=window has it
    loss: Literal["pinball", "mse"]

    @model_validator(mode="after")
    def _what_belongs_to_a_scaling(self) -> "ModelChoices":
        if (self.scaling == "window") != (self.shrinkage is not None):
            raise ValueError("shrinkage belongs to scaling=window alone: choose model=lstm or model=absolute")
        if (self.scaling == "window") != (self.loss == "pinball"):
            raise ValueError(
                "loss=pinball belongs to scaling=window and loss=mse to scaling=none, which has one output"
            )
        return self

    def network(self, horizon: int, inputs: str) -> dict[str, Any]:
        """The arguments of `build_network`."""
        return {"horizon": horizon, "inputs": inputs, **self.model_dump(exclude={"loss"}, exclude_none=True)}


class OptimizerChoices(_Choices):
    """Adam's settings."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    schedule: Literal["cosine", "constant"]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainerChoices(_Choices):
    """How long to train and on what. Those with a default are added by `+trainer.…=`, and are the Trainer's own."""

    threads: Annotated[Annotated[int, Field(gt=0, le=256)] | None, BeforeValidator(_none_for_auto)]
    max_epochs: PositiveInt
    patience: PositiveInt | None
    accelerator: Literal["cpu", "gpu", "auto"]
    gradient_clip_val: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    devices: PositiveInt | None = None
    strategy: Literal["ddp_fork"] | None = None  # processes that are started anew would run the whole command again
    detect_anomaly: bool | None = None
    profiler: Literal["simple", "advanced"] | None = None

    def of_the_trainer(self) -> dict[str, Any]:
        """The arguments of pytorch_lightning.Trainer, max_epochs among them."""
        return self.model_dump(exclude={"threads", "patience", "gradient_clip_val"}, exclude_none=True)


class DataChoices(_Choices):
    """Windows and the basis of their prices."""

    lookback: Annotated[int, Field(ge=2, le=1000)]
    horizon: Annotated[int, Field(gt=0, le=250)]
    price: Literal["adjusted", "close"]
    inputs: Literal["window", "history", "ohlc"]
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


class BeginningChoices(_Choices):
    """Where a stock's training begins."""

    init: Literal["auto", "shared", "none"]
    learning_rate_factor: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class SweepChoices(_Choices):
    """How many trainings are compared: by a figure of the validation part, never by one of the test part.

    `space` is tune.py's: what it searches through.
    """

    metric: Literal["val_pinball", "val_mape", "best_val_loss"]
    space: dict[str, Text] | None = None


class SweepConfig(_Choices):
    """What a sweep has to know before its first job."""

    sweep: SweepChoices


class PrunerChoices(_Choices):
    """When a trial may be given up: optuna.pruners.MedianPruner's."""

    startup_trials: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]


class TrainConfig(_Choices):
    """Everything that decides a training run."""

    stock: Text
    stocks: Annotated[list[Text], Field(min_length=1)] | None
    start: Text
    end: Text | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    promote: Literal["auto", "always", "never"]
    if_drifted: bool
    ckpt_path: GivenPath | None
    source: SourceChoices
    data: DataChoices
    model: ModelChoices
    optimizer: OptimizerChoices
    evaluation: EvaluationChoices
    trainer: TrainerChoices
    train: BeginningChoices
    sweep: SweepChoices | None = None  # a training that nothing is compared with has none

    @model_validator(mode="after")
    def _many_stocks_make_the_shared_model(self) -> "TrainConfig":
        if (self.stocks is not None) != (self.stock.upper() == "SHARED"):
            raise ValueError("stocks=[…] belongs to stock=SHARED, and to no other: choose experiment=ibovespa")
        if self.if_drifted and self.stocks is not None:
            raise ValueError("if_drifted=true asks about one stock; the shared model has many")
        return self

    @model_validator(mode="after")
    def _processes_share_a_batch(self) -> "TrainConfig":
        rows, devices = self.data.batch_size, self.trainer.devices or 1
        if rows % devices:
            raise ValueError(
                f"data.batch_size={rows} cannot be shared by trainer.devices={devices}: give a multiple of it"
            )
        return self


class TuneConfig(TrainConfig):
    """Everything that decides a search: its trials' training, but for the space, and its own."""

    sweep: SweepChoices
    trials: PositiveInt
    study: Annotated[Text, Field(min_length=1, max_length=200)] | None
    storage: Annotated[Text, Field(min_length=1)]
    pruner: PrunerChoices

    @property
    def training(self) -> dict[str, Any]:
        """What a TrainConfig is made of."""
        return self.model_dump(mode="json", include=set(TrainConfig.model_fields) - {"sweep"})


class BacktestConfig(_Choices):
    """Everything that decides a walk-forward backtest."""

    stock: Text
    stocks: Annotated[list[Text], Field(min_length=1)] | None
    start: Text
    first_cutoff: Text
    end: Text | None
    refit_every: Annotated[int, Field(gt=0, le=1200)]
    history: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None
    validation: Annotated[float, Field(ge=0.05, le=0.5, allow_inf_nan=False)]
    models: Annotated[list[Text], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    source: SourceChoices
    data: DataChoices
    model: ModelChoices
    optimizer: OptimizerChoices
    trainer: TrainerChoices


class ServeConfig(_Choices):
    """Everything that decides how the API is served."""

    host: Literal["127.0.0.1", "0.0.0.0", "::"]  # nosec B104
    port: Annotated[int, Field(ge=1024, le=65535)]
    stock: Text
    workers: Annotated[int, Field(ge=1, le=16)]
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_body: Annotated[int, Field(ge=1024)]
    retry: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    poll: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    source: SourceChoices


class DashboardConfig(_Choices):
    """Everything that decides how the dashboard is shown."""

    host: Literal["127.0.0.1", "0.0.0.0", "::"]  # nosec B104
    port: Annotated[int, Field(ge=1024, le=65535)]
    stock: Text
    language: Literal["pt", "en"]
    mlflow: Text
    remember: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    upload: Annotated[int, Field(ge=1, le=1024)]
    source: SourceChoices


class PredictConfig(_Choices):
    """Everything that decides a forecast."""

    stock: Text
    closes: list[Any] | None
    format: Literal["table", "json"]
    source: SourceChoices


class PricesConfig(_Choices):
    """Everything that decides a report on prices."""

    stock: Text
    start: Text
    end: Text | None
    price: Literal["adjusted", "close"]
    against: str | None
    against_path: GivenPath | None
    tolerance: Annotated[float, Field(ge=0, lt=100, allow_inf_nan=False)]
    confirm: Text | None
    source: SourceChoices


_OF_THE_KEY = {"extra_forbidden": "there is no such setting", "missing": "this setting is needed"}

Choices = TypeVar("Choices", bound=_Choices)


def parse(kind: type[Choices], composed: DictConfig | Mapping[str, Any]) -> Choices:
    """Check a composed configuration.

    Raises:
        InvalidChoice: names every key that is not allowed, what was given and what is allowed.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True) if isinstance(composed, DictConfig) else composed
        return kind.model_validate(values)
    except ValidationError as error:
        raise InvalidChoice(
            f"{'; '.join(map(_defect, error.errors()))}. The choices and their meaning: --help, or conf/."
        ) from None
    except OmegaConfBaseException as error:
        raise InvalidChoice(f"The configuration does not resolve: {error}. The choices: --help, or conf/.") from None


def _defect(error: Mapping[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] in _OF_THE_KEY:
        return f"{key}: {_OF_THE_KEY[error['type']]}"
    wanted = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if isinstance(error["input"], Mapping):  # the rule is about several keys of a group, and names them
        return f"{key}: {wanted}" if key else wanted
    return f"{key}={_shown(error['input'])}: {wanted}"


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:80]}…"
