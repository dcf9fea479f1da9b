import re
import string

import pytest

from pregao import errors
from pregao.cli.dashboard import APP
from pregao.dashboard.language import LANGUAGES
from pregao.dashboard.sentences import SENTENCES
from pregao.evaluation.baselines import BASELINES
from pregao.evaluation.report import NAIVE
from tests.dashboard.conftest import figures, told

PAGES = ("prices", "performance", "forecast", "experiments", "train")
SOURCE = "\n".join(file.read_text(encoding="utf-8") for file in APP.parent.glob("*.py") if file.name != "sentences.py")


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_say_it_with_the_same_figures(key):
    texts = SENTENCES[key]
    assert len(texts) == len(LANGUAGES)
    assert all(text.strip() for text in texts)
    assert len({frozenset(placeholders(text)) for text in texts}) == 1


def test_every_refusal_has_a_sentence():
    def kinds(kind):
        return {kind.__name__}.union(*map(kinds, kind.__subclasses__()))

    ours = {name for name in kinds(errors.PregaoError) if hasattr(errors, name) or name == "IncomparableLosses"}
    assert {f"refused.{name}" for name in ours} <= set(SENTENCES)


def test_no_sentence_is_kept_that_no_page_says():
    groups = set(re.findall(r'f[\'"](\w+)\.\{', SOURCE)) | set(re.findall(r'choose\("(\w+)"', SOURCE))
    said = set(re.findall(r'[\'"]([\w. ]+)[\'"]', SOURCE))
    assert {key for key in SENTENCES if key not in said and key.partition(".")[0] not in groups} <= {"train", "test"}


def test_the_naive_baseline_has_a_name_in_portuguese():
    assert NAIVE in BASELINES
    assert SENTENCES[f"forecaster.{NAIVE}"][0] == "último fechamento"


def test_every_page_speaks_both_languages(open_page):
    for language in LANGUAGES:
        app = open_page(language=language)
        for page in PAGES:
            app.switch_page(f"{page}.py").run()
            assert app.title[0].value == SENTENCES[f"{page}.title"][list(LANGUAGES).index(language)]


def test_the_switch_turns_the_page(open_page):
    app = open_page()
    assert figures(app)["Up to"] == "2024-12-30"
    app.sidebar.radio(key="language").set_value("pt").run()
    assert app.title[0].value == "Preços"
    assert figures(app)["Até"] == "30/12/2024"
    assert "compra ou venda" in told(app)
