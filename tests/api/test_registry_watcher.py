import asyncio
import shutil
import threading
from dataclasses import replace

import pytest

from pregao.api.registry_watcher import RegistryWatcher
from pregao.models.onnx import ONNX
from pregao.settings import settings
from pregao.tracking import registry
from pregao.tracking.served import NOT_REGISTERED
from tests.api.conftest import POLL, client_of, run_here, training, until
from tests.forecasting.conftest import register
from tests.models.test_trained import trained_model


async def started(watcher):
    await watcher.start()
    await watcher.compare()
    return watcher


@pytest.fixture(autouse=True)
def tasks_in_this_process(monkeypatch):
    monkeypatch.setattr(RegistryWatcher, "run", run_here)


def test_a_new_home_serves_the_shipped_models_and_requests_wait_for_them(shared, vale3):
    async def run():
        watcher = RegistryWatcher(None)
        early = asyncio.create_task(watcher.model(vale3))
        await asyncio.sleep(0)
        assert not early.done()
        await watcher.start()
        first = await early
        await watcher.compare()
        return watcher, first, await watcher.model(vale3)

    watcher, first, served = asyncio.run(run())
    assert (first.stock, first.version) == ("SHARED", NOT_REGISTERED)
    assert (served.stock, served.version) == ("SHARED", 1)
    assert watcher.problems == {}
    assert registry.champions() == {"SHARED": (1, served.run_id)}


def test_a_model_that_cannot_be_loaded_is_a_problem_of_its_stock(shared):
    (shared / ONNX).write_bytes(b"")
    watcher = asyncio.run(started(RegistryWatcher(None)))
    assert "The shipped model of SHARED cannot be registered" in watcher.problems["SHARED"]


@pytest.mark.parametrize("damage", ["removed", "corrupted"])
def test_without_its_database_the_server_keeps_its_models_and_creates_none(shared, prices, damage, caplog):
    with client_of(prices, POLL) as client:
        file = settings().mlruns / "mlflow.db"
        if damage == "removed":
            file.unlink()
        else:
            file.write_bytes(b"not a database" * 1000)
        health = until(lambda: client.get("/health"), lambda answer: answer.json()["problems"])
        assert file.exists() == (damage == "corrupted")
        [problem] = health.json()["problems"]
        assert "The models in memory are served" in problem
        assert str(settings().home) not in problem
        assert (health.status_code, client.post("/predict", json={"stock": "VALE3"}).status_code) == (200, 200)
        assert client.get("/statistics").status_code == 503
        if damage == "removed":
            answer = client.post("/train", json=training())
            assert (answer.status_code, "has been removed" in answer.json()["detail"]) == (503, True)
            shutil.rmtree(settings().mlruns)
            assert client.post("/predict", json={"stock": "VALE3"}).status_code == 200
            assert client.post("/train", json=training()).status_code == 503
            assert not file.exists()
    assert caplog.text.count("The registry cannot be read") == 1


def test_a_registry_that_hangs_does_not_delay_a_promoted_model(home, prices, vale3, tmp_path, monkeypatch):
    registry.set_champion(vale3, register(trained_model(), tmp_path / "first"))
    second = register(trained_model(hidden_size=4), tmp_path / "second")
    asked, answered = threading.Event(), threading.Event()
    try:
        with client_of(prices, POLL) as client:
            monkeypatch.setattr(registry, "look", lambda: (asked.set(), answered.wait(60)))
            assert asked.wait(10)
            registry.set_champion(vale3, second)
            assert client.post("/predict", json={"stock": "VALE3"}, timeout=10).json()["model"]["version"] == 2
            answered.set()
    finally:
        answered.set()


@pytest.mark.parametrize("size", ["horizon", "lookback"])
def test_a_champion_of_another_size_is_not_served_and_the_answer_says_why(home, prices, vale3, tmp_path, size):
    """/predict promises ten prices after twenty closes."""
    usual, shorter = trained_model(), trained_model(horizon=9)
    other = shorter if size == "horizon" else replace(usual, card=replace(usual.card, lookback=30))
    registry.set_champion(vale3, register(usual, tmp_path / "usual"))
    with client_of(prices) as client:
        assert client.post("/predict", json={"stock": "VALE3"}).json()["model"]["version"] == 1
        registry.set_champion(vale3, register(other, tmp_path / "other"))
        answer = client.post("/predict", json={"stock": "VALE3"})
        [problem] = client.get("/health").json()["problems"]
    assert answer.status_code == 404
    assert problem.startswith("VALE3 version 2 is not served: ")
    assert problem in answer.json()["detail"]
