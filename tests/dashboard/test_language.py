import re

from pregao import errors
from pregao.dashboard.language import LANGUAGES
from pregao.dashboard.sentences import SENTENCES, SUMMARIES
from tests.dashboard.conftest import metrics, text_of

PAGES = ("prices", "performance", "forecast", "experiments", "train")


def test_both_languages_have_every_text_with_the_same_placeholders():
    for key, texts in SENTENCES.items():
        assert len([text for text in texts if text.strip()]) == len(LANGUAGES), key
        assert len({frozenset(re.findall(r"{\w+}", text)) for text in texts}) == 1, key


def test_every_error_of_the_package_has_a_portuguese_summary():
    def names(kind):
        return {kind.__name__}.union(*map(names, kind.__subclasses__()))

    assert {name for name in names(errors.PregaoError) if hasattr(errors, name)} <= set(SUMMARIES)


def test_every_page_is_shown_in_both_languages(open_page):
    for place, language in enumerate(LANGUAGES):
        app = open_page(language=language)
        for page in PAGES:
            app.switch_page(f"{page}.py").run()
            assert app.title[0].value == SENTENCES[f"{page}.title"][place]
            text_of(app)


def test_the_language_switch_changes_texts_and_dates_and_the_stock_stays_on_other_pages(open_page):
    app = open_page()
    app.selectbox(key="stock").set_value("PETR4").run()
    assert metrics(app)["Up to"] == "2024-12-30"
    app.sidebar.radio(key="language").set_value("pt").run()
    assert metrics(app)["Até"] == "30/12/2024"
    app.switch_page("train.py").run()
    assert app.selectbox(key="stock").value == "PETR4"
