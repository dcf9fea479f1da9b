"""MLflow's stores: an SQLite file, a PostgreSQL and a server."""

import os
import re
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import sqlalchemy as sa

from tests.postgres import postgres  # noqa: F401 - a fixture


def create_database(server, name, template="template1"):
    with sa.create_engine(server.uri, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    return server.uri.replace("/postgres", f"/{name}")


@pytest.fixture(scope="session")
def empty_postgres(postgres):  # noqa: F811
    """The server, with a database `empty` that has MLflow's tables: their migrations take seconds."""
    code = "from pregao.tracking.client import prepared_client; prepared_client()"
    env = {**os.environ, "MLFLOW_TRACKING_URI": create_database(postgres, "empty")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    return postgres


@pytest.fixture
def on_postgres(home, empty_postgres, tmp_path, monkeypatch):
    name = re.sub(r"\W", "_", tmp_path.name).lower()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", create_database(empty_postgres, name, "empty"))
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # else connections stay open, and are reported


@pytest.fixture
def on_server(home, monkeypatch):
    """An MLflow server over the home's database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--backend-store-uri", f"sqlite:///{home}/mlruns/mlflow.db", "--artifacts-destination", home / "files"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *options]
    server = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, cwd=home)
    uri = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            urlopen(f"{uri}/health", timeout=1).close()
            break
        except (URLError, TimeoutError):
            time.sleep(0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    server.terminate()
    server.wait()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, home):
    """A home whose runs are in each of the stores."""
    if request.param != "sqlite":
        request.getfixturevalue({"postgresql": "on_postgres", "server": "on_server"}[request.param])
    return request.param
