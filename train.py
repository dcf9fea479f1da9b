"""Train, judge and register a forecaster of a stock's next closes: python train.py stock=VALE3."""

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
    """Run the Pipeline and show what it found; the last line is the folder that holds it."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_job(cfg)
    config = parse(TrainConfig, cfg)
    if config.sweep is not None and config.sweep.space is not None:
        raise InvalidChoice(
            "sweep=optuna is a space for tune.py to search: python tune.py. For all of a grid: sweep=grid."
        )
    folder = Path(HydraConfig.get().runtime.output_dir)

    # Late: torch and MLflow take seconds that --help and a refused choice need not wait for.
    from pregao.cli.progress import EpochProgress
    from pregao.cli.terminal import show_result
    from pregao.training.pipeline import Pipeline

    show_result(Pipeline(config, folder, [EpochProgress()]).run())


if __name__ == "__main__":
    main()
