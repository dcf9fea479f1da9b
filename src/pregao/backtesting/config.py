"""The settings of a walk-forward backtest."""

from typing import Annotated

from pydantic import Field

from pregao.config import Choices, SourceChoices, Text
from pregao.training.config import DataChoices, ModelChoices, OptimizerChoices, TrainerChoices


class BacktestConfig(Choices):
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
