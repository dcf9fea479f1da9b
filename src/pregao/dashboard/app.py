"""The frame of all pages: navigation, language, and the message for a page that fails."""

from pathlib import Path

import streamlit as st

from pregao.dashboard.language import choose_language, say
from pregao.dashboard.refusals import guarded

ICON = Path(__file__).with_name("icon.svg")

PAGES = {
    "prices": ":material/candlestick_chart:",
    "performance": ":material/target:",
    "forecast": ":material/trending_up:",
    "experiments": ":material/science:",
    "train": ":material/model_training:",
}


def main() -> None:
    """Run the page of the URL."""
    st.set_page_config(page_title="Pregão", page_icon=str(ICON), layout="wide")
    with st.sidebar:
        choose_language()  # first: all other texts depend on it
    pages = [
        st.Page(f"{name}.py", title=say(f"{name}.title"), icon=icon, url_path=name, default=not place)
        for place, (name, icon) in enumerate(PAGES.items())
    ]
    page = st.navigation(pages)
    st.sidebar.caption(say("disclaimer"))
    with guarded():
        page.run()


main()
