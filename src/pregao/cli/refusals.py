"""The sentence on the terminal for a refused input, including overrides that Hydra refuses."""

from difflib import get_close_matches

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pregao.errors import causes, refusal

NOT_A_GROUP = "Config group override must be"
"""Start of the message of model=5, which Hydra raises as a ValueError."""


def sentence(error: Exception) -> str | None:
    """Return the sentence for the user, or None if the error is a bug."""
    refused = refusal(error)
    if refused is not None:
        return str(refused)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith(NOT_A_GROUP):
        return _unknown_choice(error)
    return None


def _unreadable(error: OverrideParseException) -> str:
    reason = error.message.splitlines()[0].removeprefix("LexerNoViableAltException: ")
    return (
        f"{error.override[:80]!r} cannot be read ({reason[:200]}). Write key=value; a value with spaces, commas, "
        "accents or brackets goes into quotes within quotes: 'key=\"value\"'. All keys: --help."
    )


def _unknown_choice(error: Exception) -> str:
    """Return Hydra's reason; for an unknown key, the most similar key and the allowed ones."""
    keys = (ConfigKeyError, ConfigAttributeError)
    missing = next((cause for cause in causes(error) if isinstance(cause, keys)), None)
    if missing is None or missing.full_key is None or not isinstance(missing.parent_node, DictConfig):
        reason = " ".join(str(error).split("Config search path")[0].split()).removesuffix(".")
        return f"{reason}. All choices: --help."
    group, _, key = str(missing.full_key).rpartition(".")
    siblings = [str(name) for name in missing.parent_node if name != "hydra"]
    near = get_close_matches(key, siblings, n=1)
    hint = f" Did you mean {'.'.join([group, near[0]] if group else near)}?" if near else ""
    where = f"in {group}" if group else "at the top"
    return f"{missing.full_key}: there is no such setting.{hint} Allowed {where}: {', '.join(siblings)}. More: --help."
