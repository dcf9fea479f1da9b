"""Validate the composed configuration. Each stage defines its settings as a subclass of Choices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pregao.errors import InvalidChoice
from pregao.settings import REPOSITORY

CONF = REPOSITORY / "conf"
"""The folder of Hydra's configurations."""

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.01, le=0.98, allow_inf_nan=False)]


def _as_text(given: object) -> str:
    # Hydra reads an unquoted 20200101 as a number; the date parser must refuse it with a sentence.
    if given is None:
        raise ValueError("should be a text")
    return str(given)


Text = Annotated[str, BeforeValidator(_as_text)]


def _not_empty(given: object) -> object:
    if given == "":  # Path("") would be the current folder
        raise ValueError("should be a path, or null for none")
    return given


GivenPath = Annotated[Path, BeforeValidator(_not_empty)]


class Choices(BaseModel):
    """A group of settings: unknown keys are refused, values are immutable."""

    # protected_namespaces: `model` is a group of settings here.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SourceChoices(Choices):
    """The price source."""

    name: str
    path: GivenPath | None


_KEY_ERRORS = {"extra_forbidden": "there is no such setting", "missing": "this setting is needed"}

T = TypeVar("T", bound=Choices)


def parse(kind: type[T], composed: DictConfig | Mapping[str, Any]) -> T:
    """Validate a composed configuration.

    Raises:
        InvalidChoice: names every invalid key, its value and what is allowed.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True) if isinstance(composed, DictConfig) else composed
        return kind.model_validate(values)
    except ValidationError as error:
        raise InvalidChoice(
            f"{'; '.join(map(_sentence, error.errors()))}. The choices and their meaning: --help, or conf/."
        ) from None
    except OmegaConfBaseException as error:
        raise InvalidChoice(f"The configuration does not resolve: {error}. The choices: --help, or conf/.") from None


def _sentence(error: Mapping[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] in _KEY_ERRORS:
        return f"{key}: {_KEY_ERRORS[error['type']]}"
    wanted = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if isinstance(error["input"], Mapping):  # the rule names the keys of the group itself
        return f"{key}: {wanted}" if key else wanted
    return f"{key}={_shown(error['input'])}: {wanted}"


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:80]}…"


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their dotted names: `model.hidden_size`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
