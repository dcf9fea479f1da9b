"""The MLflow model as code: what `mlflow.pyfunc.load_model` and `mlflow models serve` run."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pregao.models.trained import TrainedModel


class ForecastModel(PythonModel):
    """Predicts a table of the next closes from closes, oldest first."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load safetensors and json."""
        self.model = TrainedModel.load(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Columns `step close lower_80 upper_80 lower_90 upper_90`; raises InvalidCloses."""
        return self.model.forecast(np.asarray(model_input, dtype=np.float64).ravel().tolist())


mlflow.models.set_model(ForecastModel())
