"""Fixtures: small histories made here, a home of its own for each test, the commands in a subprocess, real prices."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from pregao import cli, tracking
from pregao.config import TrainConfig, parse
from pregao.prices.calendar import sessions
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY

torch.set_num_threads(1)
# A shell's background job ignores ctrl-C, and so would every command that a test starts from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


def random_walk(n=400, seed=0, last="2024-12-30"):
    """A `date, close` table of B3 sessions."""
    days = sessions("BVMF", pd.Timestamp("2015-01-01").date(), pd.Timestamp(last).date())[-n:]
    returns = np.random.default_rng(seed).normal(0.0003, 0.02, n)
    return pd.DataFrame({"date": days, "close": (50 * np.exp(returns.cumsum())).round(4)})


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """An MLflow database without runs; its migrations take seconds, so it is made once and copied."""
    home = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREGAO_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking.served_stocks()
    return home / "mlruns" / "mlflow.db"


@pytest.fixture
def home(tmp_path, monkeypatch, empty_database):
    folder = tmp_path / "home"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    monkeypatch.setenv("PREGAO_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pregao.settings.SHIPPED", tmp_path / "no models are shipped")
    return folder


@pytest.fixture
def prices(tmp_path):
    """A folder with VALE3.csv, to be read with source=csv."""
    folder = tmp_path / "prices"
    folder.mkdir()
    random_walk().to_csv(folder / "VALE3.csv", index=False)
    return folder


@pytest.fixture
def real_prices():
    folder = os.environ.get("PREGAO_REAL_DATA")
    if not folder:
        pytest.skip("PREGAO_REAL_DATA is unset: no real prices here")
    return Path(folder).resolve()


@pytest.fixture
def vale3():
    return Symbol.parse("VALE3")


SMALL = ("start=2015-01-01", "model.hidden_size=4", "trainer.max_epochs=2")
"""Overrides of a training that takes a second."""


def small_config(folder, *overrides, end="2024-12-30"):
    """A training of VALE3 from a folder of csv files."""
    chosen = [*SMALL, "source=csv", f"source.path={folder}", f"end={end}", *overrides]
    with initialize_config_dir(str(cli.CONF), version_base=None):
        return parse(TrainConfig, compose("train", chosen))


def environment(home, **variables):
    """What a user's shell has: this Python first, a home of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PREGAO_HOME": str(home), "OMP_NUM_THREADS": "1", **variables}
    env.pop("MLFLOW_TRACKING_URI", None)
    return env


def run(program, *arguments, home, timeout=120, **variables):
    """A command of the repository as a user runs it."""
    command = [sys.executable, str(REPOSITORY / program), *arguments]
    env = environment(home, **variables)
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout)
