"""The settings of the dashboard."""

from typing import Annotated, Literal

from pydantic import Field

from pregao.config import Choices, SourceChoices, Text
from pregao.training.config import LimitChoices


class DashboardConfig(Choices):
    """The fields of conf/dashboard.yaml."""

    host: Literal["127.0.0.1", "0.0.0.0", "::"]  # nosec B104
    port: Annotated[int, Field(ge=1024, le=65535)]
    stock: Text
    language: Literal["pt", "en"]
    mlflow: Text
    remember: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    upload: Annotated[int, Field(ge=1, le=1024)]
    source: SourceChoices
    limits: LimitChoices
