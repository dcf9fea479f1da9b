"""The real server, under load, while what it stands on breaks."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest

from pregao.api.schemas import CLOSES
from pregao.forecasting.log import ForecastLog
from pregao.prices.calendar import last_finished_session
from pregao.settings import settings
from tests.api.conftest import free_port, training
from tests.conftest import random_walk
from tests.faults.conftest import STOCKS
from tests.faults.storm import Storm, Supervised, lost, made_up
from tests.forecasting.conftest import count

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults]


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.1)


def csv(folder):
    return "source=csv", f"source.path={folder}"


def forecast(answer):
    assert answer.status_code == 200, answer.text
    return [row["close"] for row in answer.json()["forecast"]]


def refused(answer):
    assert answer.status_code == 503, answer.text
    assert answer.json()["detail"].endswith(".")


@pytest.mark.slow
def test_kills_at_random_under_load_lose_nothing_and_make_no_wrong_answer(own_home, made_prices):
    folder, tables = made_prices
    chance = random.Random(6544)
    with Supervised(own_home, *csv(folder)) as server, Storm(server.url, STOCKS) as storm:
        for role in ("inference", "HTTP", "starter", "training"):
            if role == "training":
                overrides = {"model.hidden_size": 4, "trainer.max_epochs": 400, "promote": "never"}
                body = training(inicio="2019-01-01", overrides=overrides)
                until(lambda body=body: _started(server, body))
                until(lambda: server.get("/train").json()["jobs"][0]["epoch"] >= 1, 60)
            time.sleep(chance.uniform(0.2, 1.5))
            assert server.kill(role)
            server.wait()
        before = storm.answers
        storm.until(before + 50)
        until(lambda: _trainings(own_home) == ["FAILED"])
    assert storm.answers > before
    assert storm.wrong == []
    assert len(storm.told) == len(STOCKS)
    assert lost(storm) == []
    assert made_up(storm, tables) == []
    assert len(server.restarts) >= 2


def _started(server, body):
    with_it = httpx.post(f"{server.url}/train?wait=false", json=body, timeout=30)
    return with_it.status_code == 202


def _trainings(home):
    """States of the runs, but for those of the models that ship."""
    with contextlib.closing(sqlite3.connect(home / "mlruns/mlflow.db")) as connection:
        return [state for (state,) in connection.execute("SELECT status FROM runs WHERE name != 'shipped'")]


@pytest.mark.slow
def test_a_full_and_a_read_only_disk_cost_no_forecast(own_home, small_disk, made_prices):
    folder, tables = made_prices
    with Supervised(own_home, *csv(folder)) as server:
        server.wait()
        with Storm(server.url, STOCKS[:1], clients=2) as storm:
            _fill(small_disk / "filler")
            full = server.predict("PETR4")
            assert forecast(full)
            assert server.get("/health").status_code == 200
            until(lambda: "pregao_forecasts_waiting 1.0" in server.get("/metrics").text)
            (small_disk / "filler").unlink()
            until(lambda: "pregao_forecasts_waiting 0.0" in server.get("/metrics").text)
            until(lambda: _mounted(small_disk, "ro"))
            read_only = server.predict("ITUB4")
            assert forecast(read_only)
            assert _mounted(small_disk, "rw")
            until(lambda: "pregao_forecasts_waiting 0.0" in server.get("/metrics").text)
    assert storm.wrong == []
    for answer in (full, read_only):
        storm._keep("stock", answer.json())
    assert lost(storm) == []
    assert made_up(storm, tables) == []


def _mounted(folder, how):
    """Whether it could be; not while somebody has a file open for writing."""
    return subprocess.run(["mount", "-o", f"remount,{how}", folder], capture_output=True).returncode == 0


def _fill(file):
    filler = os.open(file, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)


@pytest.mark.slow
def test_damaged_files_are_neither_served_nor_waited_for(own_home, made_prices):
    folder, tables = made_prices
    with Supervised(own_home, *csv(folder)) as server, Storm(server.url, STOCKS, clients=2) as storm:
        before = forecast(server.predict())
        [log] = own_home.glob("outputs/forecasts.db")
        until(lambda: len(storm.told) == len(STOCKS))
        log.write_bytes(b"this is no database" * 1000)
        until(lambda: list(log.parent.glob("forecasts.corrupt-*")) and log.exists())
        until(lambda: lost(storm) == [])
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
        told = server.predict().json()
        assert told["model"]["stock"] == "SHARED"
        assert any("VALE3" in problem for problem in server.get("/health").json()["problems"])
        weights.write_bytes(whole)
        until(lambda: server.predict().json()["model"]["stock"] == "VALE3")
        assert forecast(server.predict()) == before
    assert storm.wrong == []
    assert lost(storm) == []
    assert made_up(storm, tables) == []


@pytest.fixture
def clock(tmp_path):
    """An environment whose wall clock a file shifts."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler, and the clock is shifted by a library")
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    offset = tmp_path / "offset"
    offset.write_text("0")
    return offset, {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}


@pytest.mark.slow
def test_a_clock_that_jumps_a_year_and_back_leaves_nothing_behind(own_home, tmp_path, clock):
    offset, environment = clock
    folder = tmp_path / "growing"
    folder.mkdir()
    table = random_walk(n=600)
    table.iloc[:-1].to_csv(folder / "VALE3.csv", index=False)
    with Supervised(own_home, *csv(folder), **environment) as server, Storm(server.url, ("VALE3",), clients=2) as storm:
        before = server.predict().json()
        offset.write_text(str(400 * 86400))
        until(lambda: server.predict().status_code == 200)
        assert server.predict().json()["forecast"] == before["forecast"]
        offset.write_text(str(-30 * 86400))
        assert server.predict().json()["forecast"] == before["forecast"]
        offset.write_text("0")
        table.to_csv(folder / "VALE3.csv", index=False)
        until(lambda: server.predict().json()["as_of"] == str(table["date"].iloc[-1].date()))
    assert storm.wrong == []
    assert lost(storm) == []
    assert made_up(storm, {"VALE3": pd.read_csv(folder / "VALE3.csv", parse_dates=["date"])}) == []


@pytest.mark.slow
def test_a_postgresql_that_goes_and_comes_back_gets_every_forecast(own_home, made_prices, postgres):
    folder, tables = made_prices
    uri = postgres.uri
    served = Supervised(own_home, *csv(folder), PREGAO_FORECASTS_URI=uri)
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
        until(lambda: server.predict("PETR4").json()["recorded"])  # the killed process has lost it
        until(lambda: count(ForecastLog(uri)) >= 3)
        postgres.stop()
        postgres.start()
        until(lambda: server.get("/accuracy").status_code == 200)
    assert storm.wrong == []
    for answer in (away, again):
        storm._keep("stock", answer.json())
    assert lost(storm, uri) == []
    assert made_up(storm, tables) == []


@pytest.mark.slow
def test_an_mlflow_server_that_goes_and_comes_back_is_followed_again(own_home, made_prices):
    folder, _ = made_prices
    port = free_port()
    store = f"sqlite:///{own_home.parent}/elsewhere.db"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(own_home.parent / "artifacts")]
    uri = f"http://127.0.0.1:{port}"

    def mlflow_server():
        with (own_home.parent / "mlflow.log").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until(lambda: _answers(f"{uri}/health"), 90)
        return process

    process = mlflow_server()
    try:
        with Supervised(own_home, *csv(folder), MLFLOW_TRACKING_URI=uri) as server:
            before = forecast(server.predict())
            assert server.get("/statistics").status_code == 200
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with Storm(server.url, STOCKS, clients=2) as storm:
                assert forecast(server.predict()) == before
                refused(server.get("/statistics"))
                process = mlflow_server()
                until(lambda: server.get("/statistics").status_code == 200)
                until(lambda: server.get("/health").json()["problems"] == [])
            assert forecast(server.predict()) == before
        assert storm.wrong == []
        assert lost(storm) == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url):
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_yahoo_that_is_slow_wrong_or_empty_is_lived_through(own_home, yahoo_server):
    table = random_walk(n=1600, last=str(last_finished_session("BVMF")))
    full = table.assign(
        open=table["close"], high=table["close"], low=table["close"], adj_close=table["close"], volume=1e6
    )
    yahoo_server.__dict__.update(status=200, delay=0.0)
    yahoo_server.answer_prices(full.iloc[:-1])
    launcher = Path(__file__).with_name("serve_from.py")
    environment = {"YAHOO_URL": yahoo_server.home_url, "NO_PROXY": "127.0.0.1"}
    with Supervised(own_home, "source=auto", launcher=launcher, **environment) as server:
        before = server.predict().json()
        assert not before["stale"]
        with Storm(server.url, ("VALE3",), clients=2) as storm:
            yahoo_server.answer({"chart": {"result": None, "error": None}})
            until(lambda: server.predict().json()["stale"])
            yahoo_server.answer(b"<html>a proxy's page</html>", status=502)
            time.sleep(3)
            assert server.predict().json()["forecast"] == before["forecast"]
            yahoo_server.answer_prices(full.tail(100))  # a history that has been cut off
            time.sleep(3)
            assert server.predict().json()["forecast"] == before["forecast"]
            (own_home / "data/VALE3.csv").write_bytes(os.urandom(5000))
            yahoo_server.delay = 30.0
            started = time.monotonic()
            assert forecast(server.predict())
            assert time.monotonic() - started < 10
            yahoo_server.delay = 0.0
            yahoo_server.answer_prices(full)
            until(lambda: server.predict().json()["as_of"] == str(table["date"].iloc[-1].date()), 60)
            assert not server.predict().json()["stale"]
    assert storm.wrong == []
    assert lost(storm) == []
    assert list((own_home / "data").glob("VALE3.corrupt-*"))


def test_given_closes_are_forecast_alike_before_and_after_a_kill(own_home, made_prices):
    with Supervised(own_home, *csv(made_prices[0])) as server:
        before = forecast(httpx.post(f"{server.url}/predict", json={"historical_data": CLOSES}, timeout=30))
        server.kill("starter")
        until(lambda: server.restarts, 90)
        assert forecast(httpx.post(f"{server.url}/predict", json={"historical_data": CLOSES}, timeout=30)) == before
        assert settings().forecasts_uri.endswith("forecasts.db")
