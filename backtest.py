"""Walk-forward backtest of the network beside the best simple models: python backtest.py stock=VALE3."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pregao.backtesting.config import BacktestConfig
from pregao.cli.command import command
from pregao.config import parse


@command("backtest")
def main(cfg: DictConfig) -> None:
    """Run the Backtest and show the table; the last line is the folder that holds it."""
    config = parse(BacktestConfig, cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)

    # Late: torch and MLflow take seconds that --help and a refused choice need not wait for.
    from pregao.backtesting.backtest import Backtest, telling_how_to_go_on
    from pregao.cli.progress import parts_progress
    from pregao.cli.terminal import show_backtest

    with telling_how_to_go_on(folder), parts_progress("backtest") as progress:
        outcome = Backtest(config, folder, progress).run()
    show_backtest(outcome)


if __name__ == "__main__":
    main()
