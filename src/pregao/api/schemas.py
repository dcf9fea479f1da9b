"""Requests and responses of the API, with working examples."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr

from pregao.data.market import OLDEST
from pregao.evaluation.drift import DriftReport
from pregao.forecasting.config import Version
from pregao.models.forecaster import MOST_CLOSES
from pregao.training.overrides import overrides_class

CLOSES = [54.1, 53.9, 54.4, 54.0, 53.2, 53.5, 52.8, 53.1, 53.9, 54.6, 54.2, 55.0, 55.3, 54.9, 55.6, 55.1, 54.8, 55.4]
CLOSES += [55.9, 55.5]

FEWEST_CLOSES = 20
LONGEST_TEXT = 40

TICKER = r"^[ \t]*([A-Za-z][A-Za-z0-9]{3}[0-9]{1,2}[ABab]?(\.[Ss][Aa])?|[Ss][Pp]500|[Nn][Aa][Ss][Dd][Aa][Qq])[ \t]*$"
"""The texts that `Symbol.parse` accepts; it refuses some of them by a sentence."""

Price = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Ticker = Annotated[StrictStr, Field(max_length=LONGEST_TEXT, examples=["VALE3"], json_schema_extra={"pattern": TICKER})]
Day = Annotated[
    StrictStr, Field(max_length=LONGEST_TEXT, examples=["2020-01-01"], json_schema_extra={"format": "date"})
]
IsoDate = Annotated[str, Field(json_schema_extra={"format": "date"})]
IsoTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class PredictRequest(_Request):
    """A stock, closes, or closes of a stock."""

    stock: Ticker | None = Field(
        default=None,
        validation_alias=AliasChoices("stock", "ticker", "symbol"),
        description="VALE3 or VALE3.SA, in any case; null: the configured stock. `ticker` and `symbol` are the same",
    )
    historical_data: Annotated[list[Price], Field(min_length=FEWEST_CLOSES, max_length=MOST_CLOSES)] | None = Field(
        default=None,
        validation_alias=AliasChoices("historical_data", "last_60_days", "last_prices", "values", "closes", "prices"),
        description="Closes in R$, oldest first; the last ones are used. `last_60_days`, `last_prices`, `values`, "
        "`closes` and `prices` are the same",
    )
    version: Version | None = Field(
        default=None, description="A version of the stock's model, not of SHARED; null: the served one"
    )


class TrainRequest(_Request):
    """The stock, the first and the last day of a training."""

    stock: Ticker = Field(
        validation_alias=AliasChoices("stock", "ticker", "symbol"),
        description="VALE3 or VALE3.SA, in any case; `ticker` and `symbol` are the same",
    )
    inicio: Day = Field(
        validation_alias=AliasChoices("inicio", "start", "start_date"),
        description="First day; `start` and `start_date` are the same",
    )
    fim: Day = Field(
        validation_alias=AliasChoices("fim", "end", "end_date"),
        description="Last day, inclusive; `end` and `end_date` are the same",
    )
    overrides: overrides_class() = Field(  # type: ignore[valid-type] # made at run time from conf/model
        default={}, validate_default=True, description="Choices of the training, by Hydra's names"
    )


class Answer(BaseModel):
    """A part of a response; later versions may add fields."""

    model_config = ConfigDict(protected_namespaces=())


class ServedModel(Answer):
    """A served model."""

    stock: str
    version: int
    run_id: str
    trained_at: IsoTime


class ModelAnswer(ServedModel):
    """The model of the forecast."""

    skill_mape: float | None = Field(description="Percent better than last close")


class Step(Answer):
    """A forecast of one session."""

    date: IsoDate | None
    step: int
    close: float
    lower_80: float
    upper_80: float
    lower_90: float
    upper_90: float


class SourceAnswer(Answer):
    """The source of the closes."""

    name: str = Field(description="cache, yahoo, b3, csv or sample")
    reasons: list[str] = Field(description="Why earlier sources were skipped, one reason per source")


class RangeAnswer(Answer):
    """The closes that were used."""

    start: IsoDate
    end: IsoDate
    closes: int


class GivenClosesAnswer(Answer):
    """The origin of a forecast from given closes."""

    used: int = Field(description="Number of closes that the forecast depends on")
    history: bool = Field(description="Whether the stock's history gives volatilities and the width of the bands")
    note: str


class MarketAnswer(Answer):
    """The market measures of the forecast: mean variances over the stocks of the model's panel."""

    as_of: IsoDate = Field(description="Their last day")
    sessions_old: int = Field(description=f"Closes of the stock after it; measures older than {OLDEST} are not used")
    stocks: int = Field(description="Number of stocks in the panel")


class PredictAnswer(Answer):
    """The next closes."""

    stock: str
    preco: str = Field(description="The closes as text, two decimals")
    prediction: float = Field(description="The next close")
    forecast: list[Step]
    as_of: IsoDate | None = Field(description="Day of the last close that was used; null for given closes")
    stale: bool = Field(description="Newer closes may exist: no source answered, or the history ended long ago")
    age: int | None = Field(description="Finished sessions after the last close that was used; null for given closes")
    warning: str | None = Field(description="A sentence if the age is above 5")
    range: RangeAnswer | None = Field(description="Null for given closes")
    recorded: bool | None = Field(
        description="Whether the forecast is in the log; false while the log is unavailable. Null for given closes, "
        "which are not logged"
    )
    source: SourceAnswer | None = Field(description="Null for given closes")
    closes: GivenClosesAnswer | None = Field(description="Null for the latest closes")
    market: MarketAnswer | None = Field(
        description="Null for a model without market measures, and for closes without a history"
    )
    model: ModelAnswer
    drift: DriftReport | None


class TrainAnswer(Answer):
    """A training that has ended."""

    message: str
    stock: str
    version: int
    run_id: str
    metrics: dict[str, float | None]
    training_time: float = Field(description="Seconds")
    inicio: IsoDate | None = Field(None, description="The first day with a price in the range that was asked for")
    fim: IsoDate | None = Field(None, description="The last one; null for a training of an earlier version")
    promoted: bool = Field(description="Whether the new model is served")
    promotion: str = Field(description="Why")


class JobStarted(Answer):
    """A training that has started."""

    job: str
    status_url: str
    events_url: str


class JobAnswer(Answer):
    """The state of a training."""

    job: str
    stock: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created: IsoTime
    finished: IsoTime | None
    progress: float = Field(description="0..1")
    epoch: int
    epochs: int | None = Field(description="The maximum number of epochs")
    train_loss: float | None
    val_loss: float | None
    result: TrainAnswer | None
    error: str | None


class JobList(Answer):
    """Trainings, newest first."""

    jobs: list[JobAnswer]


class Detail(Answer):
    """A refusal: one sentence."""

    detail: str
    error: str = Field(description="The sentence of `detail` again, for old clients")


class Busy(Detail):
    """A refusal because another training runs."""

    job: str | None


class ModelEntry(ServedModel):
    """A served model with the metrics of its training run."""

    metrics: dict[str, float | None]


class RolledBack(Answer):
    """The version that answers from now on."""

    stock: str
    version: int


class ModelList(Answer):
    """The served models."""

    models: list[ModelEntry]


class Scores(Answer):
    """The accuracy of past forecasts in percent, RMSE in the stock's currency."""

    n: int = Field(description="Forecast closes whose outcome is known")
    rmse: float
    mape: float
    naive_rmse: float = Field(description="Of last close, on the same forecasts")
    naive_mape: float
    skill_rmse: float | None = Field(description="Percent better than last close")
    skill_mape: float | None
    coverage_80: float = Field(description="Percent of the actual closes inside the 80 % band")
    coverage_90: float


class StepScores(Scores):
    """Scores of one step ahead."""

    step: int


class StockScores(Scores):
    """The past forecasts of a stock by one version of a model."""

    stock: str
    model: str = Field(description="The model's stock, or SHARED")
    version: int
    first: IsoDate = Field(description="Day of the last close before the first forecast")
    last: IsoDate
    steps: list[StepScores]


class Accuracy(Answer):
    """The accuracy of past forecasts."""

    accuracy: list[StockScores]
    waiting: int = Field(description="Forecasts that are not in the log yet")


class Live(Answer):
    """The server answers."""

    status: Literal["ok"]


class Health(Answer):
    """Whether a model returns forecasts, and other problems."""

    status: Literal["ok", "not ready"]
    stocks: list[str]
    problems: list[str]


class RunEntry(Answer):
    """A run of MLflow; times in ms since the epoch."""

    artifact_uri: str | None
    run_id: str
    status: str
    start_time: int | None
    end_time: int | None
    metrics: dict[str, float | None]
    params: dict[str, str]
    tags: dict[str, str]


class ExperimentEntry(Answer):
    """An experiment of MLflow, with its runs, newest first."""

    artifact_uri: str | None
    experiment_id: str
    lifecycle_stage: str
    name: str
    runs: list[RunEntry]


class Statistics(Answer):
    """Every experiment."""

    experiments: list[ExperimentEntry]
    next_page_token: str | None = Field(None, description="Of the next page; null on the last")
