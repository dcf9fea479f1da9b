"""The settings of the command prices."""

from typing import Annotated, Literal

from pydantic import Field

from pregao.config import Choices, GivenPath, SourceChoices, Text


class PricesConfig(Choices):
    """All settings of a report on prices."""

    stock: Text
    start: Text
    end: Text | None
    price: Literal["adjusted", "close"]
    against: str | None
    against_path: GivenPath | None
    tolerance: Annotated[float, Field(ge=0, lt=100, allow_inf_nan=False)]
    confirm: Text | None
    source: SourceChoices
