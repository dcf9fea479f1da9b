"""Portuguese and English: sentences, numbers and dates."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import streamlit as st

from pregao.dashboard.sentences import SENTENCES
from pregao.dashboard.state import configuration

LANGUAGES = {"pt": "Português", "en": "English"}

_SWAPPED = str.maketrans(",.", ".,")


def language() -> str:
    """Pt or en: the visitor's choice, or the server's."""
    return str(st.session_state.get("language") or configuration().language)


def switch() -> None:
    """Let the visitor choose."""
    names = list(LANGUAGES)
    st.radio(
        "Idioma · Language",
        names,
        names.index(configuration().language),
        format_func=LANGUAGES.__getitem__,
        key="language",
        bind="query-params",
        horizontal=True,
    )


def choose(what: str, names: Sequence[str], default: str, key: str) -> str:
    """Let the visitor choose one of some names, whose sentences are WHAT.NAME; WHAT is the label."""
    chosen = st.segmented_control(
        say(what),
        names,
        default=default,
        required=True,
        format_func=lambda name: say(f"{what}.{name}"),
        wrap=True,
        key=key,
    )
    return str(chosen)


def say(key: str, **values: object) -> str:
    """A sentence of the catalogue."""
    text = SENTENCES[key][list(LANGUAGES).index(language())]
    return text.format(**values) if values else text


def name_of_forecaster(name: str) -> str:
    """The package's name of a model or a baseline, in the visitor's language where that has another."""
    return _known(f"forecaster.{name}") or name


def name_of_choice(name: str) -> str:
    """The label of a training's choice; its own name where the catalogue has none."""
    return _known(f"choice.{name}") or name


def help_of_choice(name: str) -> str | None:
    """What a choice means, where the catalogue says it."""
    return _known(f"choice.{name}.help")


def _known(key: str) -> str | None:
    return say(key) if key in SENTENCES else None


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with the language's decimal sign; a dash for none."""
    if value is None or value != value:
        return "–"
    text = f"{value:{'+' if sign else ''}z,.{digits}f}"  # z: nothing is never negative
    return text.translate(_SWAPPED) if language() == "pt" else text


def day(value: date) -> str:
    """31/01/2020 or 2020-01-31."""
    return value.strftime("%d/%m/%Y") if language() == "pt" else value.strftime("%Y-%m-%d")


def day_format() -> str:
    """The same for Streamlit's date fields."""
    return "DD/MM/YYYY" if language() == "pt" else "YYYY-MM-DD"


def decimal() -> dict[str, Any]:
    """The language's signs for pandas' Styler."""
    return {"decimal": ",", "thousands": "."} if language() == "pt" else {"decimal": ".", "thousands": ","}
