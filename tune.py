"""Search for better choices with Optuna: python tune.py stock=VALE3 trials=50."""

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
    """Run the Search and show the best trials; the last line is the folder that holds it."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        raise InvalidChoice("tune.py searches by itself: -m and sweep=grid are train.py's; give sweep.space=… here.")
    config = parse(TuneConfig, cfg)

    # Late: torch and Optuna take seconds that --help and a refused choice need not wait for.
    from pregao.cli.progress import parts_progress
    from pregao.cli.terminal import show_search
    from pregao.tuning.search import Search

    with parts_progress("search") as progress:
        found = Search(config, Path(hydra.runtime.output_dir), list(hydra.overrides.task), progress).run()
    show_search(found)


if __name__ == "__main__":
    main()
