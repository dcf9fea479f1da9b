"""Train, judge and register a forecaster of a stock's next closes: python train.py stock=VALE3."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pregao.cli import command


@command("train")
def main(cfg: DictConfig) -> None:
    """Run the Pipeline and show what it found; the last line is the folder that holds it."""
    # Late: torch and MLflow take seconds that --help and a typo need not wait for.
    from pregao.config import TrainConfig, parse
    from pregao.pipeline import Pipeline
    from pregao.progress import EpochProgress
    from pregao.terminal import show_result

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        cfg.promote = "never"
    folder = Path(HydraConfig.get().runtime.output_dir)
    show_result(Pipeline(parse(TrainConfig, cfg), folder, [EpochProgress()]).run())


if __name__ == "__main__":
    main()
