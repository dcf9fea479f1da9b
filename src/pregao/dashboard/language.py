"""Texts, numbers and dates in the visitor's language, Portuguese or English."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import streamlit as st

from pregao.dashboard.sentences import SENTENCES
from pregao.dashboard.state import configuration

LANGUAGES = {"pt": "Português", "en": "English"}

_SWAPPED = str.maketrans(",.", ".,")


def language() -> str:
    """The visitor's choice, `pt` or `en`; else the server's default."""
    return str(st.session_state.get("language") or configuration().language)


def choose_language() -> None:
    """Show the language switch."""
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


def choose(group: str, names: Sequence[str], default: str, key: str) -> str:
    """Show a choice of one of these names; the sentence GROUP is its label, GROUP.NAME the text of a name."""
    chosen = st.segmented_control(
        say(group),
        names,
        default=default,
        required=True,
        format_func=lambda name: say(f"{group}.{name}"),
        wrap=True,
        key=key,
    )
    return str(chosen)


def say(key: str, **values: object) -> str:
    """A text of SENTENCES, with its placeholders replaced by `values`."""
    text = SENTENCES[key][list(LANGUAGES).index(language())]
    return text.format(**values) if values else text


def name_of_forecaster(name: str) -> str:
    """The translated name of a model or baseline; untranslated names unchanged."""
    return _if_known(f"forecaster.{name}") or name


def name_of_choice(name: str) -> str:
    """The label of a training choice; its name if SENTENCES has none."""
    return _if_known(f"choice.{name}") or name


def help_of_choice(name: str) -> str | None:
    """The explanation of a training choice, if SENTENCES has one."""
    return _if_known(f"choice.{name}.help")


def _if_known(key: str) -> str | None:
    return say(key) if key in SENTENCES else None


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number in the language's format; a dash for None and NaN."""
    if value is None or value != value:
        return "–"
    text = f"{value:{'+' if sign else ''}z,.{digits}f}"  # z: no negative zero
    return text.translate(_SWAPPED) if language() == "pt" else text


def day(value: date) -> str:
    """31/01/2020 or 2020-01-31."""
    return value.strftime("%d/%m/%Y") if language() == "pt" else value.strftime("%Y-%m-%d")


def day_format() -> str:
    """The format of `day` for Streamlit's date fields."""
    return "DD/MM/YYYY" if language() == "pt" else "YYYY-MM-DD"


def decimal() -> dict[str, Any]:
    """The language's separators, as arguments of pandas' Styler."""
    return {"decimal": ",", "thousands": "."} if language() == "pt" else {"decimal": ".", "thousands": ","}
