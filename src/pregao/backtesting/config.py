"""The settings of a walk-forward backtest."""

from typing import Annotated

from pydantic import Field

from pregao.config import Text
from pregao.training.config import FitConfig


class BacktestConfig(FitConfig):
    """All settings of a walk-forward backtest."""

    first_cutoff: Text
    refit_every: Annotated[int, Field(gt=0, le=1200)]
    history: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None
    validation: Annotated[float, Field(ge=0.05, le=0.5, allow_inf_nan=False)]
    models: Annotated[list[Text], Field(min_length=1)]
    learning_rate_factor: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
