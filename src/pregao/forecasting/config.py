"""The settings of a forecast."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pregao.config import Choices, GivenPath, SourceChoices, Text

Version = Annotated[int, Field(ge=1, lt=2**31)]
"""The number of a registered version; MLflow's tables hold 32 bits."""


class ExportConfig(Choices):
    """The choices of pregao export."""

    stock: Text
    version: Version | None
    path: GivenPath | None


class PredictConfig(Choices):
    """The choices of predict.py."""

    stock: Text
    closes: list[Any] | None
    version: Version | None
    format: Literal["table", "json"]
    source: SourceChoices
