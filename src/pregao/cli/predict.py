"""The command predict: a forecast with the served model."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.forecasting.config import PredictConfig


@command("predict")
def main(cfg: DictConfig) -> None:
    """Forecast the next 10 closes of a stock with its served model.

      python predict.py stock=VALE3
      python predict.py stock=VALE3 format=json source=csv source.path=DIR
      python predict.py stock=VALE3 version=2                     an earlier or unserved version: pregao models
      python predict.py 'closes=[54.1, 53.9, …]'                  at least 20, oldest first
      python predict.py stock=VALE3 'closes=[54.1, 53.9, …]'      and the stock's history gives the width of the bands

    Prints a table, or JSON with the field names of the HTTP API.
    """
    config = parse(PredictConfig, cfg)

    # Late: torch and MLflow take seconds to import, which --help and a refusal do not need.
    from pregao.cli.terminal import show_forecast
    from pregao.forecasting.compose import forecast_closes, forecast_stock
    from pregao.forecasting.writer import ForecastWriter

    source, path = config.source.name, config.source.path
    if config.closes is None:
        forecast = forecast_stock(config.stock, source, path, ForecastWriter(), config.version)
    else:
        named = any(override.startswith("stock=") for override in HydraConfig.get().overrides.task)
        forecast = forecast_closes(config.closes, config.stock, source if named else None, path, config.version)
    show_forecast(forecast, config.format)
