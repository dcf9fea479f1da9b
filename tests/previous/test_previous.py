"""What the version before left in a home still loads and continues: make.py says how home.tar.xz is made."""

import json
import sqlite3
import tarfile
from contextlib import closing
from datetime import date

import mlflow
import pandas as pd
import pytest

from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from pregao.tracking import run_table
from pregao.training.jobs import Jobs
from tests.conftest import assert_close
from tests.golden import in_one_process
from tests.previous import make


def replaced_in_database(file, old, new):
    with closing(sqlite3.connect(file)) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                update = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?'
                connection.execute(update, (old, new, f"%{old}%"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of that home and its prices; all paths that it holds are its own."""
    with tarfile.open(make.ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for file in filter(lambda path: path.is_file(), tmp_path.rglob("*")):
        if file.suffix == ".db":
            replaced_in_database(file, str(make.ROOT), str(tmp_path))
        elif str(make.ROOT).encode() in (content := file.read_bytes()):
            file.write_bytes(content.replace(str(make.ROOT).encode(), str(tmp_path).encode()))
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def expected(root):
    return json.loads(make.EXPECTED.read_text(encoding="utf-8").replace(str(make.ROOT), str(root)))


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # MLflow 3.17 about its own classes, at import
def test_the_model_that_mlflow_stored_with_its_code_forecasts_the_same(root, expected):
    mlflow.set_tracking_uri(settings().tracking_uri)
    closes = pd.read_csv(root / "prices/VALE3.csv")["close"].to_numpy()
    found = mlflow.pyfunc.load_model("models:/VALE3@champion").predict(closes)
    assert_close(found.to_numpy().tolist(), expected["pyfunc"], 1e-9)


def test_the_table_of_runs_lists_all_of_them(expected, root):
    found = run_table.table()
    assert sorted(found[["stock", "run_id", "status"]].to_numpy().tolist()) == expected["runs"]
    answer = json.loads("".join(run_table.statistics(run_table.Page())))
    assert sum(len(experiment["runs"]) for experiment in answer["experiments"]) == len(found)


def test_a_logged_forecast_waits_for_its_closes_and_is_scored(root):
    log = ForecastLog(settings().forecasts_uri)
    assert log.due(date(2025, 1, 15)) == [("VALE3", "adjusted")]
    later = make.random_walk(420, seed=0, last="2025-01-31")
    assert log.settle("VALE3", "adjusted", later) == 10
    assert log.outcomes("VALE3")["n"].tolist() == [1] * 10


def test_a_training_in_the_background_is_remembered(root):
    [job] = Jobs().all()
    assert (job.stock, job.state, job.epoch) == ("ITUB4", "done", 2)


def test_forecasts_and_what_was_interrupted_give_the_same_figures(root, expected, subtests):
    """But a checkpoint in the middle of a training has weights and optimiser states by the names of its version."""
    answers = in_one_process(list(expected["commands"].values()), root / "home")
    for name, (code, text) in zip(expected["commands"], answers, strict=True):
        with subtests.test(name):
            assert code == (2 if name == "training" else 0)
            if code == 0:
                assert_close(make.LEFT[name](text), expected[name], 1e-6, smallest=1e-6)
