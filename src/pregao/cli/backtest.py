"""The command backtest: a walk-forward comparison of the models with baselines."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pregao.backtesting.config import BacktestConfig
from pregao.cli.command import command
from pregao.config import parse


@command("backtest")
def main(cfg: DictConfig) -> None:
    """Backtest walk-forward: forecast from each past session with earlier data only, and compare with baselines.

      python backtest.py stock=VALE3
      python backtest.py panel=ibovespa source=csv source.path=DIR
      python backtest.py 'stocks=[VALE3,PETR4]' refit_every=3 history=5 'models=[own, last close, GJR-GARCH]'

    To resume an interrupted backtest, repeat the command with hydra.run.dir=FOLDER, the folder in its log.
    Writes outputs/backtest/<time>/ with forecasts.parquet, cross_validation.parquet (the same for other
    libraries), scores.csv, periods.csv, backtest.png, and an MLflow run.
    """
    config = parse(BacktestConfig, cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)

    # Late: torch and MLflow take seconds to import, which --help and a refusal do not need.
    from pregao.backtesting.backtest import Backtest, log_how_to_resume
    from pregao.cli.progress import parts_progress
    from pregao.cli.terminal import show_backtest

    with log_how_to_resume(folder), parts_progress("backtest") as progress:
        outcome = Backtest(config, folder, progress).run()
    show_backtest(outcome)
