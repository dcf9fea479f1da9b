import pytest

from pregao.api import refusals
from pregao.errors import PregaoError, sentence_for_clients
from pregao.settings import settings


def every(kind):
    for child in kind.__subclasses__():
        yield child
        yield from every(child)


@pytest.mark.parametrize("kind", list(every(PregaoError)))
def test_every_refusal_has_a_status(kind):
    assert kind in refusals.STATUS
    assert refusals.kind(kind.__name__) is kind
    body = refusals.body(kind, "no")
    assert (body["detail"][0]["msg"] if refusals.status(kind) == 422 else body["detail"]) == "no"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("asked /home/me/prices/VALE3.csv. Check", "asked VALE3.csv. Check"),
        ("sqlite:////srv/mlruns/mlflow.db cannot", "mlflow.db cannot"),
        ("file:///srv/a/b cannot", "b cannot"),
        ("'/srv/a b/c' is", "'a b/c' is"),
        ("see https://example.org/a/b for 2020/01/02", "see https://example.org/a/b for 2020/01/02"),
        ("POST /train trains", "POST /train trains"),
    ],
)
def test_a_sentence_for_clients_has_no_folder_of_the_host(sentence, expected):
    assert sentence_for_clients(sentence) == expected


def test_a_sentence_for_clients_has_no_home_with_spaces(monkeypatch, tmp_path):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "my home"))
    assert sentence_for_clients(f"{settings().home}/data/x.csv: no") == "data/x.csv: no"
