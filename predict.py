"""Forecast a stock's next closes with its served model: python predict.py stock=VALE3."""

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.forecasting.config import PredictConfig


@command("predict")
def main(cfg: DictConfig) -> None:
    """Show the forecast from the latest closes, or from closes=[…]."""
    config = parse(PredictConfig, cfg)

    # Late: torch and MLflow take seconds that --help and a refused choice need not wait for.
    from pregao.cli.terminal import show_forecast
    from pregao.forecasting.compose import forecast_closes, forecast_stock

    if config.closes is None:
        forecast = forecast_stock(config.stock, config.source.name, config.source.path)
    else:
        forecast = forecast_closes(config.closes, config.stock)
    show_forecast(forecast, config.format)


if __name__ == "__main__":
    main()
