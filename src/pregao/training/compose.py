"""The configuration of a training that was not started on the command line, composed from conf/."""

import threading
from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pregao.config import SourceChoices, parse
from pregao.errors import InvalidChoice, first_line
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY
from pregao.training.config import TrainConfig

_COMPOSING = threading.Lock()  # Hydra keeps one configuration per process


def train_config(
    symbol: Symbol, start: str | None, end: str | None, source: SourceChoices, overrides: Mapping[str, Any]
) -> TrainConfig:
    """The configuration that train.py would compose from these choices.

    Raises:
        InvalidChoice: a key or a value that conf/ does not allow.
    """
    chosen = [f"{key}={'null' if value is None else value}" for key, value in overrides.items()]
    dates = [f"{key}='{value}'" for key, value in (("start", start), ("end", end)) if value is not None]
    try:
        with _COMPOSING:
            GlobalHydra.instance().clear()  # the command that serves has composed its own configuration
            with initialize_config_dir(str(REPOSITORY / "conf"), version_base=None):
                composed = compose("train", [*chosen, f"stock={symbol}", f"source={source.name}", *dates])
    except (HydraException, OmegaConfBaseException) as error:
        raise InvalidChoice(" ".join(first_line(error).split())) from None
    # Not as an override: a path may hold characters of Hydra's grammar.
    return parse(TrainConfig, composed).model_copy(update={"source": source})
