"""Re-export for models that MLflow stored with earlier versions, whose code imports it from here."""

from pregao.models.trained import TrainedModel

__all__ = ["TrainedModel"]
