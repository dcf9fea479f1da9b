"""Fixtures: small synthetic histories, a separate home per test, commands in a subprocess, real prices."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import save

from pregao.cli import command as cli
from pregao.config import parse
from pregao.data.windows import fraction_borders
from pregao.files import atomic_write
from pregao.models import export
from pregao.models.trained import TrainedModel
from pregao.prices.calendar import sessions
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY
from pregao.tracking import registry
from pregao.training.config import TrainConfig

torch.set_num_threads(1)
# A background job of a shell ignores ctrl-C, and its child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def random_walk(n=400, seed=0, last="2024-12-30"):
    """A `date, close` table of B3 sessions."""
    days = sessions("BVMF", pd.Timestamp("2015-01-01").date(), pd.Timestamp(last).date())[-n:]
    returns = np.random.default_rng(seed).normal(0.0003, 0.02, n)
    return pd.DataFrame({"date": days, "close": (50 * np.exp(returns.cumsum())).round(4)})


def with_ranges(table, seed=0):
    """The table with an open, a high and a low around each close."""
    spread = np.abs(np.random.default_rng(seed).normal(0, 0.01, (2, len(table))))
    both = pd.concat([table["close"], table["close"].shift(fill_value=table["close"].iloc[0])], axis=1)
    high, low = both.max(axis=1) * (1 + spread[0]), both.min(axis=1) * (1 - spread[1])
    return table.assign(open=both.iloc[:, 1], high=high.round(4), low=low.round(4))


def assert_close(found, expected, tolerance, smallest=0.0):
    """Compare nested values: numbers within a relative or absolute tolerance; `found` may have more keys."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys()
        for key in expected:
            assert_close(found[key], expected[key], tolerance, smallest)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, tolerance, smallest)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, tolerance, smallest)
    else:
        assert found == expected


@pytest.fixture(autouse=True)
def no_exported_address():
    """mlflow.set_tracking_uri sets an environment variable, which would change the next test."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """An MLflow database without runs, to copy: its migrations take seconds."""
    home = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREGAO_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry.served_stocks()
    return home / "mlruns" / "mlflow.db"


def windows_of(load, inputs="window", seed=1):
    """The data module of `load()`: 70 % training, 15 % validation, 15 % test, in batches of 32."""
    from pregao.data.datamodule import PricesDataModule  # Lightning takes seconds, and few tests need it

    split = partial(fraction_borders, train=0.7, validation=0.15)
    return PricesDataModule(load, lookback=20, horizon=10, inputs=inputs, split=split, batch_size=32, seed=seed)


def settle(folder, empty_database, patch):
    """A home in this folder without models, not even shipped ones."""
    home = folder / "home"
    (home / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, home / "mlruns" / "mlflow.db")
    patch.setenv("PREGAO_HOME", str(home))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.setattr("pregao.settings.SHIPPED", folder / "no models are shipped")
    return home


@pytest.fixture
def home(tmp_path, monkeypatch, empty_database):
    return settle(tmp_path, empty_database, monkeypatch)


def prices_in(folder, stock):
    """A new folder with a random walk as STOCK.csv, to be read with source=csv."""
    folder.mkdir()
    random_walk().to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture
def prices(tmp_path):
    return prices_in(tmp_path / "prices", "VALE3")


def trained(folder, empty_database, patch, stock):
    """A home in this folder with a served model of a stock, whose prices are in the folder."""
    from pregao.training.pipeline import Pipeline  # Lightning takes seconds, and few tests need it

    random_walk().to_csv(folder / f"{stock}.csv", index=False)
    home = settle(folder, empty_database, patch)
    run = home / f"outputs/{stock}/1"
    run.mkdir(parents=True)
    Pipeline(small_config(folder, f"stock={stock}"), run).run()
    return home


@pytest.fixture(autouse=True, scope="session")
def each_network_is_exported_once(tmp_path_factory):
    """The exporter takes five seconds, and many tests serve the same network; their processes share the files."""
    export_network = export._as_onnx
    folder = tmp_path_factory.getbasetemp().parent / "onnx"
    folder.mkdir(exist_ok=True)

    def exported_once(network, lookback):
        scalars = int | float | str | tuple
        choices = [(type(m), {k: v for k, v in vars(m).items() if isinstance(v, scalars)}) for m in network.modules()]
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        kept = folder / hashlib.sha256(f"{lookback} {choices}".encode() + save(weights)).hexdigest()
        if not kept.exists():
            content = export_network(network, lookback)
            with atomic_write(kept) as file:
                file.write_bytes(content)
        return kept.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_as_onnx", exported_once)
        yield


@pytest.fixture(scope="session")
def shared_model(tmp_path_factory, empty_database):
    """A folder of models with a SHARED of two stocks, trained on closes until June 2024."""
    from pregao.training.pipeline import Pipeline  # Lightning takes seconds, and few tests need it

    folder = tmp_path_factory.mktemp("shared")
    for seed, stock in enumerate(("PETR4", "ITUB4"), start=1):
        with_ranges(random_walk(seed=seed)).to_csv(folder / f"{stock}.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        run = settle(folder, empty_database, patch) / "outputs/SHARED/1"
        run.mkdir(parents=True)
        Pipeline(small_config(folder, "stock=SHARED", "stocks=[PETR4,ITUB4]", end="2024-06-28"), run).run()
    models = shutil.copytree(run / "model", folder / "models/SHARED")
    export.add_onnx(TrainedModel.load(models), models)
    shutil.copy(run / "metrics.json", folder / "models/SHARED")
    return folder / "models"


@pytest.fixture
def shared(home, shared_model, tmp_path, monkeypatch):
    """The files of the shipped SHARED of this home; a test may change them before the first use."""
    models = Path(shutil.copytree(shared_model, tmp_path / "models"))
    monkeypatch.setattr("pregao.settings.SHIPPED", models)
    return models / "SHARED"


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
"""Overrides of a training run that takes a second."""


def small_config(folder, *overrides, end="2024-12-30"):
    """The configuration of a training run of VALE3 from a folder of csv files.

    Its model is served: few windows of a random walk say little about a model, so promote=auto may refuse it.
    """
    chosen = [*SMALL, "source=csv", f"source.path={folder}", f"end={end}", "promote=always", *overrides]
    with initialize_config_dir(str(cli.CONF), version_base=None):
        return parse(TrainConfig, compose("train", chosen))


def environment(home, **variables):
    """The environment variables of a user's shell, with this Python first and this home."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PREGAO_HOME": str(home), "OMP_NUM_THREADS": "1", **variables}
    env.pop("MLFLOW_TRACKING_URI", None)
    return env


def run(program, *arguments, home, timeout=120, **variables):
    """Run a command of the repository like a user."""
    command = [sys.executable, str(REPOSITORY / program), *arguments]
    env = environment(home, **variables)
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout)
