"""The settings of the HTTP API."""

from typing import Annotated, Literal

from pydantic import Field

from pregao.config import Choices, SourceChoices, Text


class ServeConfig(Choices):
    """The choices of serve.py."""

    host: Literal["127.0.0.1", "0.0.0.0", "::"]  # nosec B104
    port: Annotated[int, Field(ge=1024, le=65535)]
    stock: Text
    workers: Annotated[int, Field(ge=1, le=16)]
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_body: Annotated[int, Field(ge=1024)]
    retry: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    poll: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    source: SourceChoices
