"""The settings of a forecast."""

from typing import Any, Literal

from pregao.config import Choices, SourceChoices, Text


class PredictConfig(Choices):
    """Everything that decides a forecast."""

    stock: Text
    closes: list[Any] | None
    format: Literal["table", "json"]
    source: SourceChoices
