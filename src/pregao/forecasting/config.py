"""The settings of a forecast."""

from typing import Any, Literal

from pregao.config import Choices, SourceChoices, Text


class PredictConfig(Choices):
    """The choices of predict.py."""

    stock: Text
    closes: list[Any] | None
    format: Literal["table", "json"]
    source: SourceChoices
