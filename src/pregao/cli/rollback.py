"""The command rollback: the previous version of a stock's model is served again."""

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.prices.symbols import Symbol
from pregao.tracking.config import RollbackConfig


@command("rollback")
def main(cfg: DictConfig) -> None:
    """Serve the version of a stock's model that was served before; a running server follows at once.

      pregao rollback stock=VALE3

    Repeat it to go one version further back. pregao models stock=VALE3 lists the versions.
    """
    symbol = Symbol.parse(parse(RollbackConfig, cfg).stock)

    # Late: torch and MLflow take seconds to import, which --help and a refusal do not need.
    from rich.console import Console

    from pregao.tracking import registry

    served = registry.rollback(symbol)
    trained = served.model.card.trained_at
    Console(highlight=False).print(f"{symbol} version {served.version}, trained {trained}, is served now.")
