"""The command models: the versions of a stock's model."""

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.prices.symbols import Symbol
from pregao.tracking.config import ModelsConfig


@command("models")
def main(cfg: DictConfig) -> None:
    """List the versions of a stock's model, newest first: test scores, and which one is served.

      pregao models stock=VALE3
      pregao models stock=SHARED

    Forecast with one of them: python predict.py stock=VALE3 version=2. Return to the one before: pregao rollback.
    """
    symbol = Symbol.parse(parse(ModelsConfig, cfg).stock)

    # Late: torch and MLflow take seconds to import, which --help and a refusal do not need.
    from pregao.cli.terminal import show_versions
    from pregao.forecasting.compose import served_model
    from pregao.tracking import registry

    answering = served_model(symbol)  # registers a shipped model at its first use
    show_versions(symbol, answering, registry.versions(symbol))
