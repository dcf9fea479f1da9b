"""The command train: a training run, or a sweep of many."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.training.config import TrainConfig
from pregao.tuning.sweep import run_job


@command("train")
def main(cfg: DictConfig) -> None:
    """Train, evaluate and register a model that forecasts the next 10 closes of a stock.

      python train.py                                    VALE3 from 2020 on
      python train.py stock=PETR4 start=2018-01-01 model.hidden_size=64
      python train.py source=csv source.path=DIR         prices from DIR/STOCK.csv with date,close
      python train.py experiment=quickstart              without network, under a minute
      python train.py -m stock=VALE3,PETR4 model.hidden_size=20,40       many; parallel: hydra/launcher=joblib or ray
      python train.py sweep=grid                         the grid of conf/sweep/grid.yaml

    Writes outputs/<STOCK>/<time>/ and an MLflow run; the last line printed is that folder.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_job(cfg)
    config = parse(TrainConfig, cfg)
    if config.sweep is not None and config.sweep.space is not None:
        raise InvalidChoice("sweep=optuna is the search space of tune.py: run python tune.py. For a grid: sweep=grid.")
    folder = Path(HydraConfig.get().runtime.output_dir)

    # Late: torch and MLflow take seconds to import, which --help and a refusal do not need.
    from pregao.cli.progress import training_progress
    from pregao.cli.terminal import show_result
    from pregao.training.limits import enforced
    from pregao.training.pipeline import Pipeline

    with enforced(config.limits):
        result = Pipeline(config, folder, training_progress()).run()
    show_result(result)
