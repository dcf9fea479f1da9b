"""The configuration of a training that was not started on the command line, composed from conf/."""

import re
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pregao.config import CONF, SourceChoices, parse
from pregao.errors import InvalidChoice, first_line
from pregao.prices.symbols import Symbol
from pregao.training.config import TrainConfig

_COMPOSING = threading.Lock()  # Hydra keeps one configuration per process

_PLAIN = re.compile(r"[A-Za-z0-9_. -]{1,80}")
"""A text without the characters of Hydra's grammar: it can neither list values nor refer to the environment."""


def train_config(
    symbol: Symbol, start: str | None, end: str | None, source: SourceChoices, overrides: Mapping[str, Any]
) -> TrainConfig:
    """The configuration that train.py would compose from these choices, for a model that /predict answers with.

    Raises:
        InvalidChoice: a key or a value that conf/ does not allow.
    """
    chosen = [_override(key, value) for key, value in overrides.items()]
    dates = [f"{key}='{value}'" for key, value in (("start", start), ("end", end)) if value is not None]
    composed = _compose("train", [*chosen, f"stock={symbol}", f"source={source.name}", *dates])
    # Not as an override: a path may hold characters of Hydra's grammar.
    return parse(TrainConfig, composed).model_copy(update={"source": source, "for_predict": True})


@cache
def models() -> dict[str, dict[str, Any]]:
    """The models of conf/model by name: `_target_` and choices, unchecked."""
    names = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    composed = OmegaConf.to_container(_compose(None, [f"+model@m{n}={name}" for n, name in enumerate(names)]))
    assert isinstance(composed, dict)
    return {name: composed[f"m{n}"] for n, name in enumerate(names)}


def _override(key: str, value: object) -> str:
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise InvalidChoice(f"{key}={value[:80]!r}: should be letters, digits, spaces and _ . - only.")
    # A choice that only the model's constructor names is added; whether the model has it is checked with the values.
    added = "++" if key.startswith("model.") else ""
    return f"{added}{key}={'null' if value is None else value}"


def _compose(name: str | None, overrides: Sequence[str]) -> DictConfig:
    try:
        with _COMPOSING:
            GlobalHydra.instance().clear()  # the command that serves has composed its own configuration
            with initialize_config_dir(str(CONF), version_base=None):
                return compose(name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise InvalidChoice(" ".join(first_line(error).split())) from None
