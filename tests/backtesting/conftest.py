"""Backtests of half a year and two refits from a folder of csv files."""

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from pregao.backtesting.backtest import Backtest
from pregao.backtesting.config import BacktestConfig
from pregao.config import CONF, parse
from tests.conftest import random_walk

QUICK = ("start=2015-01-01", "first_cutoff=2024-07-01", "refit_every=3", "end=2024-12-30", "source=csv")
NETWORK = ("model.hidden_size=4", "trainer.max_epochs=1")
FEW = "models=[last close,EWMA]"
ALL = "models=[shared,last close,EWMA,GJR-GARCH]"
STOCKS = ("VALE3", "PETR4")


def backtest(folder, home, *overrides, name="1", **choices):
    run = home / "outputs/backtest" / name
    run.mkdir(parents=True, exist_ok=True)
    chosen = [*QUICK, *NETWORK, f"source.path={folder}", *overrides]
    with initialize_config_dir(str(CONF), version_base=None):
        config = parse(BacktestConfig, compose("backtest", chosen))
    return Backtest(config, run, **choices)


def written(folder, tables):
    folder.mkdir(exist_ok=True)
    for stock, table in tables.items():
        table.to_csv(folder / f"{stock}.csv", index=False)
    return folder


def table_of(outcome):
    return pd.read_parquet(outcome.folder / "forecasts.parquet")


@pytest.fixture
def two():
    return {stock: random_walk(seed=seed) for seed, stock in enumerate(STOCKS)}


@pytest.fixture
def folder(tmp_path, two):
    return written(tmp_path / "prices", two)


@pytest.fixture
def scored(home, tmp_path):
    """Run a backtest of these tables."""

    def run(tables, *overrides, stocks=None):
        chosen = f"stocks=[{','.join(stocks or tables)}]"
        return backtest(written(tmp_path / "prices", tables), home, chosen, *overrides).run()

    return run


@pytest.fixture
def no_plots(monkeypatch):
    """Plots take most of the time of a small backtest."""
    monkeypatch.setattr("pregao.backtesting.plots.backtest", lambda walk, path: path.touch())
