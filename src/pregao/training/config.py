"""The settings of a training run, checked and typed. No default lives here: hyper-parameters are conf/'s."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from pregao.config import Choices, Fraction, GivenPath, PositiveInt, SourceChoices, Text


def _none_for_auto(given: object) -> object:
    return None if given == "auto" else given


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Promote = Literal["auto", "always", "never"]
Price = Literal["adjusted", "close"]
Lookback = Annotated[int, Field(ge=2, le=1000)]
Horizon = Annotated[int, Field(gt=0, le=250)]
LearningRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WeightDecay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class OptimizerChoices(Choices):
    """Adam's settings."""

    learning_rate: LearningRate
    schedule: Literal["cosine", "constant"]
    weight_decay: WeightDecay


class TrainerChoices(Choices):
    """How long to train and on which device. Those with a default are added by `+trainer.…=`."""

    threads: Annotated[Annotated[int, Field(gt=0, le=256)] | None, BeforeValidator(_none_for_auto)]
    max_epochs: PositiveInt
    patience: PositiveInt | None
    accelerator: Literal["cpu", "gpu", "auto"]
    gradient_clip_val: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    devices: PositiveInt | None = None
    strategy: Literal["ddp_fork"] | None = None  # spawned processes would run the whole command again
    detect_anomaly: bool | None = None
    profiler: Literal["simple", "advanced"] | None = None

    def of_the_trainer(self) -> dict[str, Any]:
        """The arguments of pytorch_lightning.Trainer, max_epochs among them."""
        return self.model_dump(exclude={"threads", "patience"}, exclude_none=True)


class DataChoices(Choices):
    """The windows and their price basis."""

    lookback: Lookback
    horizon: Horizon
    price: Price
    inputs: Literal["window", "history", "ohlc"]
    batch_size: PositiveInt


class EvaluationChoices(Choices):
    """How the windows are split."""

    split: Literal["date", "reference"]
    train: Fraction
    validation: Fraction

    @model_validator(mode="after")
    def _a_test_part_remains(self) -> "EvaluationChoices":
        if self.train + self.validation >= 1:
            raise ValueError(f"train={self.train} and validation={self.validation} leave no test part; their sum < 1")
        return self


class BeginningChoices(Choices):
    """Which weights the training of a stock starts from."""

    init: Literal["auto", "shared", "none"]
    learning_rate_factor: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class SweepChoices(Choices):
    """How trainings are compared: by a metric of the validation part, never of the test part.

    `space` is the search space of tune.py.
    """

    metric: Literal["val_pinball", "val_mape", "best_val_loss"]
    space: dict[str, Text] | None = None


class FitConfig(Choices):
    """The choices that decide how a model learns from prices; trainings, backtests and searches share them."""

    stock: Text
    stocks: Annotated[list[Text], Field(min_length=1)] | None
    start: Text
    end: Text | None
    seed: Seed
    source: SourceChoices
    data: DataChoices
    optimizer: OptimizerChoices
    trainer: TrainerChoices
    model: dict[str, Any]

    @field_validator("model", mode="before")
    @classmethod
    def _checked(cls, given: object, info: ValidationInfo) -> object:
        """`_target_` and the choices of a model, checked by the annotations of its constructor.

        The check imports torch, which takes a second: a setting before it that is refused anyway does not wait for it.
        """
        if not isinstance(given, Mapping) or len(info.data) < list(cls.model_fields).index("model"):
            return given
        from pregao.models.choices import checked

        return checked(given)

    def network(self, stocks: int) -> dict[str, Any]:
        """All arguments of a model of this many stocks, `_target_` first."""
        from pregao.models.choices import with_data  # late, as in _checked

        data = self.data
        return with_data(self.model, horizon=data.horizon, inputs=data.inputs, lookback=data.lookback, stocks=stocks)

    @model_validator(mode="after")
    def _processes_share_a_batch(self) -> Self:
        rows, devices = self.data.batch_size, self.trainer.devices or 1
        if rows % devices:
            raise ValueError(
                f"data.batch_size={rows} cannot be shared by trainer.devices={devices}: give a multiple of it"
            )
        return self


class TrainConfig(FitConfig):
    """Everything that decides a training run.

    `for_predict` lets only a model be promoted that POST /predict can answer with; it is set for a training over HTTP.
    """

    promote: Promote
    if_drifted: bool
    ckpt_path: GivenPath | None
    evaluation: EvaluationChoices
    train: BeginningChoices
    sweep: SweepChoices | None = None  # None outside a sweep
    for_predict: bool = False

    @model_validator(mode="after")
    def _many_stocks_make_the_shared_model(self) -> "TrainConfig":
        if (self.stocks is not None) != (self.stock.upper() == "SHARED"):
            raise ValueError("stocks=[…] belongs to stock=SHARED, and to no other: choose experiment=ibovespa")
        if self.if_drifted and self.stocks is not None:
            raise ValueError("if_drifted=true asks about one stock; the shared model has many")
        return self

    @property
    def dates(self) -> tuple[date, date | None]:
        """The first and the last day of the prices.

        Raises:
            InvalidDates: no dates, or in the wrong order.
        """
        from pregao.data.windows import REFERENCE_END  # late: pandas takes half a second
        from pregao.prices.dates import parse_dates

        # The published comparison ends on a day; later closes would be evaluated with it.
        return parse_dates(self.start, self.end or (REFERENCE_END if self.evaluation.split == "reference" else None))
