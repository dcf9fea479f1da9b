"""Show an error as a message instead of the part of a page that failed; never a traceback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pregao.dashboard.language import language, say
from pregao.dashboard.sentences import SUMMARIES
from pregao.errors import refusal, sentence_for_clients

logger = logging.getLogger(__name__)


@contextmanager
def guarded() -> Iterator[None]:
    """Show the error of this block as a message; the rest of the page still runs."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            logger.exception("A page of the dashboard failed.")
            st.error(say("internal"), icon=":material/error:")
        else:
            show(type(refused).__name__, str(refused))


def show(kind: str, sentence: str) -> None:
    """Show a sentence of the package as a warning; in Portuguese, after the summary of its kind in SUMMARIES."""
    public = sentence_for_clients(sentence)
    if language() == "en":
        st.warning(_escaped(public), icon=":material/info:")
        return
    st.warning(SUMMARIES[kind], icon=":material/info:")
    st.caption(_escaped(f"{say('detail')}: {public}"))


def _escaped(text: str) -> str:
    """Escaped for Markdown, which would read R$ … R$ as a formula."""
    for sign in "\\$*_[]<>`~#|:":
        text = text.replace(sign, f"\\{sign}")
    return text
