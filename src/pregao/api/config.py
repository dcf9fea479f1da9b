"""The settings of the HTTP API."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pregao.config import Choices, SourceChoices, Text
from pregao.settings import settings
from pregao.training.config import LimitChoices


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
    connections: Annotated[int, Field(ge=10, le=100_000)]
    insecure: bool
    wrong_keys: Annotated[int, Field(ge=1)]
    allowed_hosts: tuple[str, ...]
    request_log: bool
    source: SourceChoices
    limits: LimitChoices

    @model_validator(mode="after")
    def _closed_or_with_a_key(self) -> "ServeConfig":
        if self.host != "127.0.0.1" and settings().api_key is None and not self.insecure:
            raise ValueError(
                f"host={self.host} lets every machine that reaches the port train and forecast. Set PREGAO_API_KEY, "
                "or allow it with insecure=true"
            )
        return self
