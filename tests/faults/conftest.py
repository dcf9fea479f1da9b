"""Synthetic prices, and a home on a small disk."""

import subprocess

import pandas as pd
import pytest

from tests.conftest import random_walk
from tests.postgres import postgres  # noqa: F401 - a fixture

STOCKS = ("VALE3", "PETR4", "ITUB4")


@pytest.fixture(scope="session")
def made_prices(tmp_path_factory):
    """A folder of csv files, and its tables by stock."""
    folder, tables = tmp_path_factory.mktemp("made"), {}
    for seed, stock in enumerate(STOCKS):
        tables[stock] = random_walk(n=1600, seed=seed)
        tables[stock].to_csv(folder / f"{stock}.csv", index=False)
    return folder, {stock: pd.read_csv(folder / f"{stock}.csv", parse_dates=["date"]) for stock in STOCKS}


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A home with the shipped models, for the server and this process."""
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


@pytest.fixture
def small_disk(own_home):
    """A file system of 10 MB for the home's outputs/; MLflow's files stay outside, since it holds them open."""
    folder = own_home / "outputs"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
