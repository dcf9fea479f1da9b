"""Versions over HTTP: a pinned one, a rollback, a model for other programs, and damaged files."""

import io
import zipfile

import pytest

from pregao.models.onnx import ONNX
from pregao.models.trained import WEIGHTS
from pregao.tracking import registry
from tests.api.conftest import POLL, client_of, until
from tests.forecasting.conftest import register
from tests.models.test_trained import trained_model

ADMIN = {"X-Admin-Key": "operator"}


@pytest.fixture
def versions(home, vale3, tmp_path, monkeypatch):
    """Versions 1 and 2 were served, version 3 never."""
    monkeypatch.setenv("PREGAO_ADMIN_KEY", ADMIN["X-Admin-Key"])
    for number, hidden_size in enumerate((4, 6, 8), start=1):
        version = register(trained_model(hidden_size=hidden_size), tmp_path / str(number))
        if number < 3:
            registry.set_champion(vale3, version)


def predict(client, **asked):
    return client.post("/predict", json={"stock": "VALE3", **asked})


def test_a_version_can_be_asked_for_and_one_without_onnx_is_exported_first(versions, prices):
    with client_of(prices) as client:
        first = predict(client, version=3)
        assert (first.status_code, first.headers["Retry-After"]) == (503, "30")
        assert "version 3 has no ONNX model yet" in first.json()["detail"]
        until(lambda: predict(client, version=3).status_code, lambda status: status == 200)
        closes = {number: predict(client, version=number).json()["prediction"] for number in (1, 2, 3)}
        assert len({*closes.values()}) == 3
        assert predict(client).json()["prediction"] == closes[2]
        assert predict(client, version=1).json()["model"]["version"] == 1
        given = predict(client, version=1, historical_data=[50.0] * 20).json()
        assert given["model"]["version"] == 1
        unknown = predict(client, version=9)
        assert unknown.status_code == 404
        assert "version 9 does not exist; registered are 1, 2, 3" in unknown.json()["detail"]
        assert predict(client, version=0).status_code == 422


def test_a_rollback_needs_the_operators_key_and_answers_at_once(versions, prices):
    with client_of(prices) as client:
        assert predict(client).json()["model"]["version"] == 2
        refused = client.post("/models/VALE3/rollback")
        assert refused.status_code == 403
        assert "X-Admin-Key" in refused.json()["detail"]
        done = client.post("/models/vale3.sa/rollback", headers=ADMIN)
        assert (done.status_code, done.json()) == (200, {"stock": "VALE3", "version": 1})
        assert predict(client).json()["model"]["version"] == 1
        again = client.post("/models/VALE3/rollback", headers=ADMIN)
        assert again.status_code == 409
        assert "replaced no earlier version" in again.json()["detail"]


def test_the_served_model_is_exported_as_a_zip(versions, prices):
    with client_of(prices) as client:
        answer = client.get("/models/VALE3/export")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="VALE3-2.zip"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert f"VALE3-2/{ONNX}" in archive.namelist()
        assert client.get("/models/PETR4/export").status_code == 404


@pytest.mark.parametrize("weights", [True, False], ids=["weights too", "ONNX alone"])
def test_a_damaged_champion_is_exported_again_or_replaced_by_the_version_before(versions, prices, vale3, weights):
    """A restarted server finds the damage."""
    entry = registry.exported(vale3, 2)
    (entry.folder / ONNX).write_bytes(b"damaged")
    if weights:
        (registry.load(vale3, 2).folder / WEIGHTS).write_bytes(b"damaged")
    with client_of(prices, POLL) as client:
        served = until(lambda: predict(client), lambda answer: answer.status_code == 200).json()["model"]["version"]
        assert served == (1 if weights else 2)
        problems = client.get("/health").json()["problems"]
        assert ("VALE3 version 2 cannot be served" in str(problems)) == weights
