"""The typed settings of a training run. Default hyper-parameters are in conf/, not here."""

from collections.abc import Mapping
from datetime import date
from operator import not_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from pregao.config import Choices, Fraction, GivenPath, PositiveInt, SourceChoices, Text

if TYPE_CHECKING:
    from pregao.data.windows import BorderRule


def _none_for_auto(given: object) -> object:
    return None if given == "auto" else given


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Promote = Literal["auto", "always", "never"]
Price = Literal["adjusted", "close"]
Lookback = Annotated[int, Field(ge=2, le=1000)]
Horizon = Annotated[int, Field(gt=0, le=250)]
LearningRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
WeightDecay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class OptimizerChoices(Choices):
    """Adam's settings."""

    learning_rate: LearningRate
    schedule: Literal["cosine", "constant"]
    weight_decay: WeightDecay


class TrainerChoices(Choices):
    """Duration and device of a training. Fields with a default are added by `+trainer.…=`."""

    threads: Annotated[Annotated[int, Field(gt=0, le=256)] | None, BeforeValidator(_none_for_auto)]
    max_epochs: PositiveInt
    patience: PositiveInt | None
    accelerator: Literal["cpu", "gpu", "auto"]
    gradient_clip_val: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    devices: PositiveInt | None = None
    strategy: Literal["ddp_fork"] | None = None  # a spawned process would run the whole command again
    detect_anomaly: bool | None = None
    profiler: Literal["simple", "advanced"] | None = None

    @model_validator(mode="after")
    def _devices_are_supported(self) -> Self:
        if (self.devices or 1) > 1 and self.strategy is None:
            raise ValueError(f"devices={self.devices} needs strategy=ddp_fork: choose trainer=ddp, or devices=1")
        if self.strategy == "ddp_fork" and self.accelerator != "cpu":
            raise ValueError(
                f"strategy=ddp_fork with accelerator={self.accelerator}: a forked process cannot use CUDA; allowed: cpu"
            )
        return self

    def trainer_arguments(self) -> dict[str, Any]:
        """The arguments for pytorch_lightning.Trainer."""
        return self.model_dump(exclude={"threads", "patience"}, exclude_none=True)


class DataChoices(Choices):
    """Window sizes, input features and price basis."""

    lookback: Lookback
    horizon: Horizon
    price: Price
    inputs: Literal["window", "history", "ohlc", "panel"]
    batch_size: PositiveInt
    shuffle: bool = Field(True, exclude_if=bool)  # the default is left out: older backtests and studies lack it


LEAK = (
    "evaluation.split=published: the epoch and the width of the bands are chosen on the test windows. This is a leak: "
    "the scores are better than those of new days"
)


class EvaluationChoices(Choices):
    """The split into training, validation and test parts, and the baselines next to last close."""

    split: Literal["date", "reference", "published"]
    train: Fraction
    validation: Fraction
    baselines: list[Text] | None = None  # None for runs that were logged before this choice

    @property
    def rule(self) -> "BorderRule":
        """The borders between the parts."""
        from pregao.data.windows import border_rule  # pandas, which --help does not need

        return border_rule(self.split, self.train, self.validation)

    @model_validator(mode="after")
    def _test_part_is_not_empty(self) -> "EvaluationChoices":
        if self.train + self.validation >= 1:
            raise ValueError(
                f"train={self.train} and validation={self.validation} leave no test part; allowed: a sum below 1"
            )
        return self


class WarmStartChoices(Choices):
    """The initial weights of a stock's training."""

    init: Literal["auto", "shared", "none"]
    learning_rate_factor: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class SweepChoices(Choices):
    """The metric that compares trainings, always of the validation part; `space` is the search space of tune.py."""

    metric: Literal["val_pinball", "val_mape", "best_val_loss"]
    space: dict[str, Text] | None = None


class FitConfig(Choices):
    """The settings that trainings, backtests and searches share: data, optimiser, trainer and model."""

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
    def _check_model(cls, given: object, info: ValidationInfo) -> object:
        """Check the model's settings against the annotations of its constructor.

        The check imports torch, which takes a second; it is skipped when an earlier field is invalid.
        """
        if not isinstance(given, Mapping) or len(info.data) < list(cls.model_fields).index("model"):
            return given
        from pregao.models.choices import checked

        return checked(given)

    def network(self, stocks: int) -> dict[str, Any]:
        """All constructor arguments of the model for this number of stocks, `_target_` first."""
        from pregao.models.choices import with_data  # late, as in _check_model

        data = self.data
        return with_data(self.model, horizon=data.horizon, inputs=data.inputs, lookback=data.lookback, stocks=stocks)

    @model_validator(mode="after")
    def _batch_is_divisible(self) -> Self:
        rows, devices = self.data.batch_size, self.trainer.devices or 1
        if rows % devices:
            raise ValueError(
                f"data.batch_size={rows} cannot be divided among trainer.devices={devices}: give a multiple of it"
            )
        return self


class LimitChoices(Choices):
    """Bounds of one training; None is no bound.

    Attributes:
        operations: trained parameters × windows of the training part × epochs.
        memory: MB of the whole process.
        minutes: duration of the whole process.
    """

    operations: Bound
    memory: Bound
    minutes: Bound


class TrainConfig(FitConfig):
    """All settings of a training run.

    With `for_predict`, set for trainings over HTTP, only a model with the window sizes of POST /predict is promoted.
    """

    promote: Promote
    if_drifted: bool
    ckpt_path: GivenPath | None
    evaluation: EvaluationChoices
    train: WarmStartChoices
    sweep: SweepChoices | None = None  # None outside a sweep
    for_predict: bool = False
    limits: LimitChoices | None = Field(None, exclude_if=not_)  # left out as in older studies, which lack it

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "TrainConfig":
        if (self.stocks is not None) != (self.stock.upper() == "SHARED"):
            raise ValueError("stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa")
        if self.train.init == "shared" and self.stocks is not None:
            raise ValueError("train.init=shared is for one stock; stock=SHARED starts from random weights")
        if self.evaluation.split == "published" and self.promote != "never":
            raise ValueError(f"{LEAK}. Such a model is never served: choose promote=never")
        if self.if_drifted and self.stocks is not None:
            raise ValueError("if_drifted=true needs one stock; the shared model has many")
        return self

    @property
    def dates(self) -> tuple[date, date | None]:
        """The first and the last day of the prices.

        Raises:
            InvalidDates: a date is not valid, or the first is after the last.
        """
        from pregao.data.windows import REFERENCE_END  # late: pandas takes half a second
        from pregao.prices.dates import parse_dates

        # The published comparison ends on this day; later closes would change its test part.
        return parse_dates(self.start, self.end or (None if self.evaluation.split == "date" else REFERENCE_END))
