"""The files of the previous version still load, and what it left unfinished is continued with the same results.

home.tar.xz holds one of each file that commit 157f4ea leaves in a home at ROOT, and expected.json how that version
answers from it; tests/previous/make.py of commit 364a0ca made both.
"""

import json
import sqlite3
import tarfile
from contextlib import closing
from datetime import date
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from pregao.tracking import run_table
from pregao.tracking.paths import follow_home
from pregao.training.jobs import Jobs
from tests.conftest import assert_close, random_walk
from tests.golden import in_one_process

HERE = Path(__file__).parent
ROOT = "/tmp/pregao-previous"


def replace_in_database(file, old, new):
    with closing(sqlite3.connect(file)) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                update = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?'
                connection.execute(update, (old, new, f"%{old}%"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of that home, which was moved, and of its prices; all paths in its files lie there."""
    with tarfile.open(HERE / "home.tar.xz") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        if file.name == "mlflow.db":
            continue  # it follows the home
        if file.suffix == ".db":
            replace_in_database(file, ROOT, str(tmp_path))
        elif ROOT.encode() in (content := file.read_bytes()):
            file.write_bytes(content.replace(ROOT.encode(), str(tmp_path).encode()))
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    follow_home()
    return tmp_path


@pytest.fixture
def expected(root):
    return json.loads((HERE / "expected.json").read_text(encoding="utf-8").replace(ROOT, str(root)))


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # MLflow 3.17 about its own classes, at import
def test_the_model_that_mlflow_stored_with_its_code_forecasts_the_same(root, expected):
    mlflow.set_tracking_uri(settings().tracking_uri)
    closes = pd.read_csv(root / "prices/VALE3.csv")["close"].to_numpy()
    found = mlflow.pyfunc.load_model("models:/VALE3@champion").predict(closes)
    assert_close(found.to_numpy().tolist(), expected["pyfunc"], 1e-9)


def test_runs_jobs_and_logged_forecasts_are_read(expected):
    runs = run_table.table()
    assert sorted(runs[["stock", "run_id", "status"]].to_numpy().tolist()) == expected["runs"]
    [job] = Jobs().all()
    assert (job.stock, job.state, job.epoch) == ("ITUB4", "done", 2)
    log = ForecastLog(settings().forecasts_uri)
    assert log.due(date(2025, 1, 15)) == [("VALE3", "adjusted")]
    assert log.settle("VALE3", "adjusted", random_walk(420, last="2025-01-31")) == 10
    assert [row["n"] for row in log.outcomes("VALE3")] == [1] * 10


def rows(text, name):
    """A table in the folder whose path is the last line, without times and ids."""
    table = pd.read_csv(Path(text.splitlines()[-1]) / name).replace({"model": {"own": "shared"}})  # now called own
    kept = [name for name in table if not name.endswith("_time") and name != "run_id"]
    return json.loads(table[kept].to_json(orient="records", double_precision=15))


VERSION_0_1 = ["data.inputs=ohlc", "model.start=volatility", "model.loss=pinball", "model.shrinkage=0.25"]
"""Its default recipe; another one is not mixed with finished parts."""

TABLES = {"study": "trials.csv", "backtest": "scores.csv"}


@pytest.mark.slow
def test_forecasts_and_interrupted_commands_give_the_same_results(root, expected, subtests):
    """But a checkpoint in the middle of a training has weights and optimiser states by the names of its version.

    What is trained since then has another order of windows, so its figures are alike and not the same.
    """
    commands = [given + VERSION_0_1 * (name in ("study", "backtest")) for name, given in expected["commands"].items()]
    answers = in_one_process(commands, root / "home")
    for name, (code, text) in zip(expected["commands"], answers, strict=True):
        with subtests.test(name):
            assert code == (2 if name == "training" else 0)
            if code == 0:
                if name == "sweep":
                    assert len(rows(text, "sweep.csv")) == len(expected["sweep"])  # by this version's default recipe
                elif name in TABLES:
                    assert_close(rows(text, TABLES[name]), expected[name], 0.02, smallest=0.2)
                else:
                    assert json.loads(text)["stale"], "the prices ended long ago"
                    assert_close(json.loads(text), expected[name] | {"stale": True}, 1e-6, smallest=1e-6)
