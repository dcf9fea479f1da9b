import pytest

from pregao import errors
from pregao.api import refusals
from pregao.errors import PregaoError
from pregao.settings import settings


def every(kind):
    for child in kind.__subclasses__():
        yield child
        yield from every(child)


@pytest.mark.parametrize("kind", list(every(PregaoError)))
def test_every_refusal_has_its_own_line_in_the_table(kind):
    assert kind in refusals.STATUS


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("asked /home/me/prices/VALE3.csv. Check", "asked VALE3.csv. Check"),
        ("sqlite:////srv/mlruns/mlflow.db cannot", "mlflow.db cannot"),
        ("file:///srv/a/b cannot", "b cannot"),
        ("'/srv/a b/c' is", "'a b/c' is"),
        ("see https://example.org/a/b for 2020/01/02", "see https://example.org/a/b for 2020/01/02"),
        ("POST /train trains", "POST /train trains"),
    ],
)
def test_a_sentence_has_no_folder_of_the_host(sentence, told):
    assert refusals.sentence_for_clients(sentence) == told


def test_a_home_with_spaces_is_not_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "my home"))
    told = refusals.sentence_for_clients(f"{settings().home}/data/x.csv: cannot be written")
    assert told == "data/x.csv: cannot be written"


def test_422_is_a_list_and_others_a_sentence():
    assert refusals.body(errors.InvalidDates, "no")["detail"][0]["msg"] == "no"
    assert refusals.body(errors.NoModel, "no")["detail"] == "no"
