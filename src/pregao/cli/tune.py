"""The command tune: a hyper-parameter search with Optuna."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.tuning.config import TuneConfig


@command("tune")
def main(cfg: DictConfig) -> None:
    """Search with Optuna for the settings with the best validation metric; no model is served.

      python tune.py stock=VALE3 trials=50
      python tune.py stock=PETR4 sweep.metric=val_mape 'sweep.space={data.lookback: "choice(10, 20, 40)"}'
      python tune.py storage=postgresql://USER:PASSWORD@HOST/DATABASE      run several of these in parallel

    To resume an interrupted search, repeat the command. study=NAME separates searches.
    Writes outputs/tune/<time>/ with trials.csv, history.png, importance.png, and MLflow runs; prints the best trial
    as a train.py command.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        raise InvalidChoice("-m and sweep=grid are for train.py only. Give tune.py its search space: sweep.space=…")
    config = parse(TuneConfig, cfg)

    # Late: torch and Optuna take seconds to import, which --help and a refusal do not need.
    from pregao.cli.progress import parts_progress
    from pregao.cli.terminal import show_search
    from pregao.tuning.search import Search

    with parts_progress("search") as progress:
        found = Search(config, Path(hydra.runtime.output_dir), list(hydra.overrides.task), progress).run()
    show_search(found)
