"""The command export: a model for other programs."""

from pathlib import Path

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.forecasting.config import ExportConfig
from pregao.prices.symbols import Symbol


@command("export")
def main(cfg: DictConfig) -> None:
    """Write a model as one folder: ONNX, a card with checksums, a README with ten lines that use it.

      pregao export stock=VALE3
      pregao export stock=VALE3 version=2 path=DIR

    Any language with ONNX Runtime can use the folder; it needs neither Pregão nor PyTorch.
    """
    config = parse(ExportConfig, cfg)
    symbol = Symbol.parse(config.stock)

    # Late: the registry takes time to import, which --help and a refusal do not need.
    from rich.console import Console

    from pregao.forecasting.compose import served_model
    from pregao.models.portable import write_portable
    from pregao.tracking import registry

    served = served_model(symbol, config.version)
    target = config.path or Path("export") / f"{served.stock}-{served.version}"
    if target.exists():
        raise InvalidChoice(f"path={target} exists already, and nothing is overwritten. Choose a new folder by path=.")
    write_portable(registry.exported(Symbol.parse(served.stock), served.version).folder, target)
    Console(highlight=False).print(f"{served.stock} version {served.version} is in {target}/.", soft_wrap=True)
