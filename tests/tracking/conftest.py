"""MLflow's stores: an SQLite file, a PostgreSQL and a server."""

import contextlib
import os
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from tests.conftest import settle
from tests.postgres import free_port, postgres  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def empty_postgres(postgres):  # noqa: F811
    """The server, with a database `empty` that has MLflow's tables: their migrations take seconds."""
    code = "from pregao.tracking.client import prepared_client; prepared_client()"
    env = {**os.environ, "MLFLOW_TRACKING_URI": postgres.database("empty")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    return postgres


@contextlib.contextmanager
def mlflow_server(home):
    """The address of an MLflow server for the home's database."""
    port = free_port()
    options = ["--backend-store-uri", f"sqlite:///{home}/mlruns/mlflow.db", "--artifacts-destination", home / "files"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *options]
    server = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, cwd=home)
    for _ in range(1200):
        with contextlib.suppress(OSError):
            urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def store(request, tmp_path_factory, empty_database):
    """The environment of a home whose runs are in the store of this name."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        home = settle(folder, empty_database, patch)
        if request.param == "postgresql":
            uri = request.getfixturevalue("empty_postgres").database(folder.name, "empty")
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # else pytest reports open connections
        if request.param == "server":
            patch.setenv("MLFLOW_TRACKING_URI", stack.enter_context(mlflow_server(home)))
        yield {name: os.environ[name] for name in ("PREGAO_HOME", "MLFLOW_TRACKING_URI") if name in os.environ}


@pytest.fixture(autouse=True)
def in_the_store(request, monkeypatch):
    if "store" in request.fixturenames:
        for name, value in request.getfixturevalue("store").items():
            monkeypatch.setenv(name, value)
