"""The settings of a sweep and of a search."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pregao.config import Choices, PositiveInt, Text
from pregao.training.config import LEAK, SweepChoices, TrainConfig

INCOMPARABLE = {
    "data.horizon": "scores of different horizons are of different targets, and the shortest one always wins",
    "data.price": "scores of different price bases are of different closes",
}
"""Settings that change what a score measures."""


class SweepConfig(Choices):
    """The settings of a sweep that are checked before its first job."""

    sweep: SweepChoices


class PrunerChoices(Choices):
    """The arguments of optuna.pruners.MedianPruner."""

    startup_trials: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]


class TuneConfig(TrainConfig):
    """The settings of a search: those of its trials, and of the study."""

    sweep: SweepChoices
    trials: PositiveInt
    study: Annotated[Text, Field(min_length=1, max_length=200)] | None
    storage: Annotated[Text, Field(min_length=1)]
    pruner: PrunerChoices

    @model_validator(mode="after")
    def _choices_see_no_test_window(self) -> Self:
        if self.evaluation.split == "published":
            raise ValueError(f"{LEAK}. A search would choose by them: use evaluation.split=reference")
        return self

    @property
    def training(self) -> dict[str, Any]:
        """The fields of TrainConfig for one trial."""
        return self.model_dump(mode="json", include=set(TrainConfig.model_fields) - {"sweep"})
