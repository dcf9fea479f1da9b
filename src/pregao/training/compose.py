"""Compose from conf/ the configuration of a training that is started over HTTP."""

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
from pregao.training.config import LimitChoices, TrainConfig

_COMPOSE_LOCK = threading.Lock()  # Hydra has global state

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_. -]{1,80}")
"""Text without Hydra's special characters, so that it cannot be a list of values or an interpolation."""


def train_config(
    symbol: Symbol,
    start: str | None,
    end: str | None,
    source: SourceChoices,
    overrides: Mapping[str, Any],
    limits: LimitChoices | None = None,
) -> TrainConfig:
    """The configuration that train.py would compose from these overrides; only a model that fits /predict is promoted.

    Raises:
        InvalidChoice: conf/ does not allow a key or a value.
    """
    chosen = [_override(key, value) for key, value in overrides.items()]
    dates = [f"{key}='{value}'" for key, value in (("start", start), ("end", end)) if value is not None]
    composed = _compose("train", [*chosen, f"stock={symbol}", f"source={source.name}", *dates])
    # Not as an override: a path may contain special characters of Hydra.
    given = {"source": source, "for_predict": True, "limits": limits}
    return parse(TrainConfig, composed).model_copy(update=given)


@cache
def models() -> dict[str, dict[str, Any]]:
    """The files of conf/model by name: `_target_` and settings, not validated."""
    names = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    composed = OmegaConf.to_container(_compose(None, [f"+model@m{n}={name}" for n, name in enumerate(names)]))
    assert isinstance(composed, dict)
    return {name: composed[f"m{n}"] for n, name in enumerate(names)}


def _override(key: str, value: object) -> str:
    if isinstance(value, str) and not _PLAIN_TEXT.fullmatch(value):
        raise InvalidChoice(f"{key}={value[:80]!r}: should be letters, digits, spaces and _ . - only.")
    # ++ also adds settings that only the constructor has; `parse` checks later that the model has them.
    added = "++" if key.startswith("model.") else ""
    return f"{added}{key}={'null' if value is None else value}"


def _compose(name: str | None, overrides: Sequence[str]) -> DictConfig:
    try:
        with _COMPOSE_LOCK:
            GlobalHydra.instance().clear()  # serve.py has composed its own configuration
            with initialize_config_dir(str(CONF), version_base=None):
                return compose(name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise InvalidChoice(" ".join(first_line(error).split())) from None
