"""The settings of a sweep and of a search."""

from typing import Annotated, Any

from pydantic import Field

from pregao.config import Choices, PositiveInt, Text
from pregao.training.config import SweepChoices, TrainConfig


class SweepConfig(Choices):
    """The settings that a sweep needs before its first job."""

    sweep: SweepChoices


class PrunerChoices(Choices):
    """When a trial is pruned: the arguments of optuna.pruners.MedianPruner."""

    startup_trials: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]


class TuneConfig(TrainConfig):
    """Everything that decides a search: the settings of its trials, and its own."""

    sweep: SweepChoices
    trials: PositiveInt
    study: Annotated[Text, Field(min_length=1, max_length=200)] | None
    storage: Annotated[Text, Field(min_length=1)]
    pruner: PrunerChoices

    @property
    def training(self) -> dict[str, Any]:
        """The settings of one trial, as TrainConfig takes them."""
        return self.model_dump(mode="json", include=set(TrainConfig.model_fields) - {"sweep"})
