"""The real server under load, while disk, files, database and processes fail; benchmarks/faults.py kills at random."""

import contextlib
import os
import subprocess
import time

import pytest

from pregao.forecasting.log import ForecastLog
from tests.api.conftest import until
from tests.faults.conftest import STOCKS
from tests.faults.storm import Storm, Supervised, lost, wrong_forecasts
from tests.forecasting.conftest import count

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults, pytest.mark.slow]


def wait_for(condition, seconds=30):
    until(condition, bool, seconds)


def assert_sound(storm, tables, uri=None):
    """No response was wrong, no recorded forecast is lost, and each is that of a registered model."""
    assert storm.wrong == []
    assert lost(storm, uri) == []
    assert wrong_forecasts(storm, tables) == []


def forecast(answer):
    assert answer.status_code == 200, answer.text
    return [row["close"] for row in answer.json()["forecast"]]


def refused(answer):
    assert answer.status_code == 503, answer.text
    assert answer.json()["detail"].endswith(".")


def test_a_full_and_a_read_only_disk_cost_no_forecast(own_home, small_disk, made_prices):
    folder, tables = made_prices
    with Supervised(own_home, "source=csv", f"source.path={folder}") as server:
        server.wait()
        with Storm(server.url, STOCKS[:1], clients=2) as storm:
            _fill(small_disk / "filler")
            full = server.predict("PETR4")
            assert forecast(full)
            assert server.get("/health").status_code == 200
            wait_for(lambda: "pregao_forecasts_waiting 1.0" in server.get("/metrics").text)
            (small_disk / "filler").unlink()
            wait_for(lambda: "pregao_forecasts_waiting 0.0" in server.get("/metrics").text)
            wait_for(lambda: _mounted(small_disk, "ro"))
            read_only = server.predict("ITUB4")
            assert forecast(read_only)
            assert _mounted(small_disk, "rw")
            wait_for(lambda: "pregao_forecasts_waiting 0.0" in server.get("/metrics").text)
    for answer in (full, read_only):
        storm._keep("stock", answer.json())
    assert_sound(storm, tables)


def _mounted(folder, how):
    """Whether it succeeded; it fails while a file is open for writing."""
    return subprocess.run(["mount", "-o", f"remount,{how}", folder], capture_output=True).returncode == 0


def _fill(file):
    filler = os.open(file, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)


def test_damaged_files_are_not_served_and_block_no_request(own_home, made_prices):
    folder, tables = made_prices
    with (
        Supervised(own_home, "source=csv", f"source.path={folder}") as server,
        Storm(server.url, STOCKS, clients=2) as storm,
    ):
        before = forecast(server.predict())
        [log] = own_home.glob("outputs/forecasts.db")
        wait_for(lambda: len(storm.recorded) == len(STOCKS))
        log.write_bytes(b"not a database" * 1000)
        wait_for(lambda: list(log.parent.glob("forecasts.corrupt-*")) and log.exists())
        wait_for(lambda: lost(storm) == [])
        [weights] = [
            path
            for path in own_home.rglob("model.safetensors")
            if '"stock": "VALE3"' in path.with_name("model.json").read_text()
        ]
        whole = weights.read_bytes()
        weights.write_bytes(whole[: len(whole) // 2])
        server.kill("inference")
        time.sleep(1)
        assert forecast(server.predict()) == before, "the whole model is in the HTTP process's memory"
        server.kill("HTTP")
        server.wait()
        assert server.predict().json()["model"]["stock"] == "SHARED"
        assert any("VALE3" in problem for problem in server.get("/health").json()["problems"])
        weights.write_bytes(whole)
        wait_for(lambda: server.predict().json()["model"]["stock"] == "VALE3")
        assert forecast(server.predict()) == before
    assert_sound(storm, tables)


def test_a_restarted_postgresql_gets_every_forecast(own_home, made_prices, postgres):
    folder, tables = made_prices
    uri = postgres.uri
    served = Supervised(own_home, "source=csv", f"source.path={folder}", PREGAO_FORECASTS_URI=uri)
    with served as server, Storm(server.url, STOCKS[:1], clients=2) as storm:
        postgres.kill()
        away = server.predict("PETR4")
        assert forecast(away)
        assert away.json()["recorded"] is False
        refused(server.get("/accuracy"))
        server.kill("HTTP")
        server.wait()
        again = server.predict("ITUB4")
        assert forecast(again)
        (postgres.data / "postmaster.pid").unlink(missing_ok=True)
        postgres.start()
        wait_for(lambda: server.predict("PETR4").json()["recorded"])  # lost by the killed process
        wait_for(lambda: count(ForecastLog(uri)) >= 3)
        postgres.stop()
        postgres.start()
        wait_for(lambda: server.get("/accuracy").status_code == 200)
    for answer in (away, again):
        storm._keep("stock", answer.json())
    assert_sound(storm, tables, uri)
