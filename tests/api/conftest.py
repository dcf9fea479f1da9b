"""A real server in a subprocess, on prices that are made here."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pregao.settings import REPOSITORY
from tests.conftest import random_walk

SMALL = {"model.hidden_size": 4, "trainer.max_epochs": 2}
RANGE = {"inicio": "2015-01-01", "fim": "2024-12-30"}
LONG = {"model.hidden_size": 4, "trainer.max_epochs": 1000, "trainer.patience": 1000, "promote": "never"}


def training(stock="VALE3", **changes):
    return {"stock": stock, **RANGE, "overrides": SMALL, **changes}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """serve.py as a user runs it."""

    def __init__(self, home, prices, *overrides, **environment):
        self.home, self.port = home, free_port()
        self.log = home / "server.log"
        home.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PREGAO_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
        env.pop("MLFLOW_TRACKING_URI", None)
        source = ["source=csv", f"source.path={prices}"]
        command = [sys.executable, str(REPOSITORY / "serve.py"), f"port={self.port}", "poll=1", *source, *overrides]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)

    def wait(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/health").status_code == 200:
                    return self
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def family(self, pid=None):
        pid = pid or self.process.pid
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
            children = [child for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            return []
        return [pid, *(other for child in children for other in self.family(int(child)))]

    def command_lines(self):
        found = {}
        for pid in self.family():
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def job(self, id):
        return self.client.get(f"/train/{id}").json()

    def until(self, id, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.job(id)
            if condition(job):
                return job
            time.sleep(0.05)
        raise AssertionError(job)

    def until_predicted(self, stock, condition, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = self.client.post("/predict", json={"stock": stock}).json()
            if condition(told):
                return told
            time.sleep(0.1)
        raise AssertionError(told)

    def stop(self, number=signal.SIGTERM, seconds=15):
        """Seconds from the signal to the last process gone."""
        processes, started = self.family(), time.monotonic()
        self.process.send_signal(number)
        self.process.wait(seconds)
        while any(Path(f"/proc/{pid}").exists() for pid in processes):
            assert time.monotonic() < started + seconds, self.log.read_text()
            time.sleep(0.05)
        self.client.close()
        return time.monotonic() - started

    def end(self):
        if self.process.poll() is None:
            for pid in self.family():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.client.close()


@pytest.fixture(scope="session")
def folder_of_prices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    for seed, stock in enumerate(("VALE3", "PETR4", "SHRT3", "ITUB4")):
        random_walk(seed=seed, n=60 if stock == "SHRT3" else 400).to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory, folder_of_prices):
    """One for all tests that leave it as it was, but for further versions of its models."""
    started = Server(tmp_path_factory.mktemp("api") / "home", folder_of_prices)
    try:
        yield started.wait()
    finally:
        started.end()


@pytest.fixture
def start(tmp_path, folder_of_prices):
    """A server of the test's own."""
    started = []

    def run(*overrides, home=None, wait=True, **environment):
        server = Server(home or tmp_path / "home", folder_of_prices, *overrides, **environment)
        started.append(server)
        return server.wait() if wait else server

    yield run
    for server in started:
        server.end()


@pytest.fixture
def client(server):
    return server.client
