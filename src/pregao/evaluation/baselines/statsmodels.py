"""The modules of statsmodels, imported where they are needed."""

from importlib import import_module
from types import ModuleType

from pregao.errors import InvalidChoice


def statsmodels(baseline: str, module: str) -> ModuleType:
    """A module of statsmodels; raises InvalidChoice if the package is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidChoice(
            f"The baseline {baseline!r} needs the package statsmodels, which cannot be imported ({error}). Install "
            "Pregão's extra `classical` (pip install -e '.[classical]' in its folder), or leave that baseline out."
        ) from error
