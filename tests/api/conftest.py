"""The API on a free port: its app in a thread of this process, or serve.py in a subprocess as a user runs it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from hydra import compose, initialize_config_dir

from pregao.api.app import configure_app
from pregao.api.config import ServeConfig
from pregao.api.forecast_api import ForecastAPI
from pregao.api.registry_watcher import RegistryWatcher
from pregao.api.request_batcher import RequestBatcher
from pregao.cli import command as cli
from pregao.config import parse
from pregao.models.onnx import OnnxModel
from pregao.settings import REPOSITORY
from pregao.tracking import registry_process
from tests.conftest import environment, random_walk, settle

SMALL = {"model.hidden_size": 4, "trainer.max_epochs": 2}
RANGE = {"inicio": "2015-01-01", "fim": "2024-12-30"}
LONG = {"model.hidden_size": 4, "trainer.max_epochs": 1000, "trainer.patience": 1000, "promote": "never"}
POLL = "poll=0.2"
NEVER = "poll=86400"  # another test may use another home when the app reads the registry again


def training(stock="VALE3", **changes):
    return {"stock": stock, **RANGE, "overrides": SMALL, **changes}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def cancel_all(client):
    for job in client.get("/train").json()["jobs"]:
        client.delete(f"/train/{job['job']}")


def begin(client):
    """A long training whose first epoch is over."""
    job = client.post("/train?wait=false", json=training(overrides=LONG)).json()["job"]
    until(lambda: client.get(f"/train/{job}").json(), lambda job: job["epoch"] >= 1)
    return job


def until(ask, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.05)
    return answer


def serve_config(*overrides):
    with initialize_config_dir(str(cli.CONF), version_base=None):
        return parse(ServeConfig, compose("serve", list(overrides)))


worker = ForecastAPI(api_path="/infer")
worker.load = lru_cache(OnnxModel.load)


async def send(calls):
    return await asyncio.to_thread(worker.predict, calls)


async def run_here(watcher, name, *arguments):
    """`RegistryWatcher.run` in this process, which knows the home and the shipped models of the test."""
    return {"version": await asyncio.to_thread(registry_process.TASKS[name], *arguments)}


@contextlib.contextmanager
def client_of(prices, *overrides):
    """A client of the app in this process, with the prices of a folder and the environment's home."""
    app = FastAPI(lifespan=lambda app: app.state.service.running())
    config = serve_config(NEVER, "source=csv", f"source.path={prices}", *overrides)
    configure_app(app, RequestBatcher(send, config.workers, config.deadline), config)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    try:
        url = f"http://127.0.0.1:{port}"
        with pytest.MonkeyPatch.context() as patch, httpx.Client(base_url=url, timeout=120) as client:
            patch.setattr("pregao.forecasting.writer.SECONDS_TO_WRITE", 60)  # a slow machine records forecasts too
            patch.setattr(RegistryWatcher, "run", run_here)
            thread.start()
            client.service = service = app.state.service
            until(lambda: server.started and service.forecasts.ready, bool)
            # The shipped models are registered at the first look; on a damaged home they never are.
            watcher = service.forecasts.registry
            until(lambda: watcher.problems or all(served.version for served in watcher.served.values()), bool)
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def folder_of_prices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    for seed, stock in enumerate(("VALE3", "PETR4", "SHRT3", "ITUB4")):
        random_walk(seed=seed, n=60 if stock == "SHRT3" else 400).to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def shipped_client(tmp_path_factory, folder_of_prices, empty_database):
    """The app in a home with the models that ship."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("api"), empty_database, patch)
        patch.undo()
        patch.setenv("PREGAO_HOME", str(home))
        with client_of(folder_of_prices) as client:
            client.home = home
            yield client


@pytest.fixture
def client(shipped_client, monkeypatch):
    """A client of one app for all tests, which leave it unchanged but for further versions of its models."""
    monkeypatch.setenv("PREGAO_HOME", str(shipped_client.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shipped_client


class Server:
    """serve.py as a user runs it."""

    def __init__(self, home, *overrides, program=REPOSITORY / "serve.py", log=None, **variables):
        self.home, self.port = Path(home), free_port()
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = log or self.home / "server.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, str(program), f"port={self.port}", "poll=1", *overrides]
        self.environment = {**environment(home), **variables}
        self.client = httpx.Client(base_url=self.url, timeout=120)
        self.start()

    def start(self):
        with self.log.open("a") as log:
            output = {"stdout": log, "stderr": log}
            self.process = subprocess.Popen(self.command, env=self.environment, start_new_session=True, **output)

    def wait(self):
        until(self.is_ready, bool, 120)
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health").status_code == 200
        return False

    def processes(self):
        with contextlib.suppress(psutil.Error):
            starter = psutil.Process(self.process.pid)
            return [starter, *starter.children(recursive=True)]
        return []

    def process_of(self, role):
        """Its HTTP, inference, training or starter process; None while it does not exist."""
        for process in self.processes():
            with contextlib.suppress(OSError, psutil.Error):
                line, starter = " ".join(process.cmdline()), process.pid == self.process.pid
                files = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
                roles = {"starter": starter, "training": "training.worker" in line, "inference": "spawn_main" in line}
                if (roles | {"HTTP": not starter and any("eventpoll" in file for file in files)})[role]:
                    return process
        return None

    def kill(self, role):
        """SIGKILL to one of its processes; whether it existed."""
        process = self.process_of(role)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return process is not None

    def stop(self, number=signal.SIGTERM):
        """Send a signal, and wait until its last process has ended."""
        processes = self.processes()
        self.process.send_signal(number)
        self.process.wait(15)
        assert not psutil.wait_procs(processes, 15)[1]

    def end(self):
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        self.client.close()


@pytest.fixture
def start(tmp_path, folder_of_prices):
    """Starts servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def run(*overrides, home=tmp_path / "home", wait=True, **variables):
            source = ("source=csv", f"source.path={folder_of_prices}")
            server = Server(home, *source, *overrides, **variables)
            stack.callback(server.end)
            return server.wait() if wait else server

        yield run
