"""The real server on damaged files, a full disk and a database that was killed; benchmarks/faults.py adds load."""

import contextlib
import os
import subprocess

import pytest

from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from tests.api.conftest import folder_of_prices, start, until  # noqa: F401 - fixtures
from tests.forecasting.conftest import count
from tests.postgres import postgres  # noqa: F401 - a fixture

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults, pytest.mark.slow]


def wait_for(condition, seconds=60):
    until(condition, bool, seconds)


def predict(server, stock="VALE3"):
    answer = server.client.post("/predict", json={"stock": stock})
    assert answer.status_code == 200, answer.text
    return answer.json()


def waiting(server, number):
    wait_for(lambda: f"pregao_forecasts_waiting {number}.0" in server.client.get("/metrics").text)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of the server, for this process too."""
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


@pytest.fixture
def small_disk(home):
    """A file system of 10 MB for the home's outputs/; MLflow's files stay outside, since it holds them open."""
    folder = home / "outputs"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_forecasts_wait_in_memory(small_disk, start):  # noqa: F811
    server = start()
    wait_for(lambda: predict(server)["recorded"])
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    assert not predict(server, "PETR4")["recorded"]
    waiting(server, 1)
    os.remove(small_disk / "filler")
    waiting(server, 0)
    assert count(ForecastLog(settings().forecasts_uri)) == 2


def test_damaged_files_are_not_served_and_block_no_request(home, start):  # noqa: F811
    server = start()
    before = predict(server)["forecast"]
    log = ForecastLog(settings().forecasts_uri)
    log.file.write_bytes(b"not a database" * 1000)
    wait_for(lambda: list(log.file.parent.glob("forecasts.corrupt-*")) and log.exists() and count(log) == 1)
    cards = {path.read_text(): path for path in home.rglob("model.json")}
    [weights] = [path.with_name("model.safetensors") for card, path in cards.items() if '"stock": "VALE3"' in card]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    server.kill("inference")
    assert predict(server)["forecast"] == before, "the whole model is in the HTTP process's memory"
    server.end()
    again = start(home=home)
    assert predict(again)["model"]["stock"] == "SHARED"
    assert any("VALE3" in problem for problem in again.client.get("/health").json()["problems"])
    weights.write_bytes(whole)
    wait_for(lambda: predict(again)["model"]["stock"] == "VALE3")
    assert predict(again)["forecast"] == before


def test_a_restarted_postgresql_gets_every_forecast(home, start, postgres):  # noqa: F811
    server = start(PREGAO_FORECASTS_URI=postgres.uri)
    wait_for(lambda: predict(server)["recorded"])
    postgres.kill()
    assert not predict(server, "PETR4")["recorded"]
    assert server.client.get("/accuracy").status_code == 503
    (postgres.data / "postmaster.pid").unlink(missing_ok=True)
    postgres.start()
    waiting(server, 0)
    assert count(ForecastLog(postgres.uri)) == 2
    assert server.client.get("/accuracy").status_code == 200
