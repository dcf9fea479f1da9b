"""Show a refusal in place of the part of a page that failed; never a trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pregao.dashboard.language import language, say
from pregao.errors import refusal, sentence_for_clients

logger = logging.getLogger(__name__)


@contextmanager
def guarded() -> Iterator[None]:
    """Show what an error means, and go on after the block."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            logger.exception("A page failed.")
            st.error(say("internal"), icon=":material/error:")
        else:
            show(type(refused).__name__, str(refused))


def show(kind: str, sentence: str) -> None:
    """A refusal."""
    tell(f"refused.{kind}", sentence)


def tell(key: str, sentence: str) -> None:
    """A warning; the package's sentences are English, so that in Portuguese one of our own comes before it."""
    told = sentence_for_clients(sentence)
    if language() == "en":
        st.warning(_plain(told), icon=":material/info:")
        return
    st.warning(say(key), icon=":material/info:")
    st.caption(_plain(f"{say('detail')}: {told}"))


def _plain(text: str) -> str:
    """Without what Markdown would take for its own: R$ … R$ is no formula."""
    for sign in "\\$*_[]<>`~#|:":
        text = text.replace(sign, f"\\{sign}")
    return text
