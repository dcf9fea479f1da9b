"""CONTRIBUTING.md's recipes, followed word for word in a copy of the code: files, commands, results."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from pregao.settings import REPOSITORY
from tests.conftest import environment, random_walk

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

FILES = re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", TEXT, flags=re.DOTALL)
"""Paths and the blocks that belong into them."""

COMMANDS = [shlex.split(command) for command in re.findall(r"`python ((?:train|backtest)\.py [^`]+)`", TEXT)]

SMALL = ("model.hidden_size=4", "trainer.max_epochs=1")


def block(start):
    """The code block that starts with a text and belongs into no file of the repository."""
    [found] = re.findall(rf"```\w+\n({re.escape(start)}.*?)```", TEXT, flags=re.DOTALL)
    return found


def command(start):
    [found] = [words for words in COMMANDS if words[1].startswith(start)]
    return found


class Copy:
    """The code with every recipe followed, and a package of somebody else's next to it."""

    def __init__(self, folder, database):
        self.code, self.other, self.home = folder / "code", folder / "site-packages", folder / "home"
        for name in ("src", "conf"):
            shutil.copytree(REPOSITORY / name, self.code / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("train.py", "backtest.py"):
            shutil.copy(REPOSITORY / name, self.code)
        for path, text in FILES:
            self.write(path, text)
        self.install_other()
        (self.home / "mlruns").mkdir(parents=True)
        shutil.copy(database, self.home / "mlruns")

    def write(self, path, text):
        file = self.code / path
        former = f"{file.read_text(encoding='utf-8')}\n\n" if file.exists() else ""
        assert bool(former) == (f"At the end of `{path}`" in TEXT)
        file.write_text(former + text, encoding="utf-8")

    def install_other(self):
        """What an installation of the package `other` leaves."""
        entries = tomllib.loads(block("[project.entry-points"))["project"]["entry-points"]
        lines = [f"[{group}]\n{name} = {target}" for group, found in entries.items() for name, target in found.items()]
        files = {
            "other/__init__.py": "",
            "other/dense.py": dict(FILES)["src/pregao/models/dense.py"],
            "other-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
            "other-1.0.dist-info/entry_points.txt": "\n".join(lines),
        }
        for path, text in files.items():
            file = self.other / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def python(self, *arguments, code=0):
        path = f"{self.code / 'src'}:{self.other}"
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.code,
            env=environment(self.home, PYTHONPATH=path),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stderr
        return done

    def run(self, *words):
        """The folder that a command leaves."""
        return Path(self.python(*words).stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def copy(tmp_path_factory, empty_database):
    return Copy(tmp_path_factory.mktemp("recipes"), empty_database)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    random_walk().to_parquet(folder / "VALE3.parquet")
    return folder


@pytest.fixture(scope="module")
def offered(copy):
    return json.loads(copy.python(REPOSITORY / "tests/offered.py", "dense").stdout)


@pytest.fixture(scope="module")
def trained(copy):
    """The folder of a training of the new model."""
    sample = ("stock=SP500", "source=sample", "start=2016-01-01", "end=2018-12-31")
    return copy.run(*command("model=dense"), *sample, *SMALL)


def test_the_new_model_is_trained(trained):
    card = json.loads((trained / "model/model.json").read_text())
    assert card["network"] == {
        "_target_": "pregao.models.dense.DenseModel",
        **{"hidden_size": 4, "leak": 0.2, "horizon": 10, "inputs": "ohlc", "lookback": 20},
    }


def test_the_new_model_keeps_the_contract(copy):
    copy.python("-c", block("from pregao.models.dense import"))


def test_the_new_model_is_offered_by_post_train(offered):
    overrides = offered["overrides"]
    assert {"dense", "other_dense", "lstm"} <= set(overrides["model"]["anyOf"][0]["enum"])
    assert overrides["model.leak"]["anyOf"][0] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}


def test_the_new_model_is_offered_on_the_dashboard(offered):
    assert {"dense", "other_dense", "lstm"} <= set(offered["page"]["models"])
    values = offered["page"]["values"]
    assert (values["Hidden size"], values["leak"]) == (16, 0.1)


def test_the_new_source_is_read_and_a_model_of_another_package_trained(copy, parquet):
    words = [word.replace("DIR", str(parquet)) for word in command("source=parquet")]
    folder = copy.run(*words, "model=other_dense", "start=2015-01-01", "end=2024-12-30", *SMALL)
    assert json.loads((folder / "model/model.json").read_text())["network"]["_target_"] == "other.dense.DenseModel"
    assert pd.read_csv(folder / "evaluation.csv")["date"].max() == "2024-12-30"


def test_a_stock_that_the_new_source_lacks_is_a_sentence(copy, parquet):
    done = copy.python("train.py", "source=parquet", f"source.path={parquet}", "stock=PETR4", code=2)
    assert "PETR4.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_new_baseline_is_compared_in_a_backtest(copy, parquet):
    data = ("source=parquet", f"source.path={parquet}", "start=2015-01-01", "first_cutoff=2024-07-01")
    folder = copy.run(*command("models="), *data, "end=2024-12-30", *SMALL)
    scores = pd.read_csv(folder / "scores.csv")
    assert {"shared", "last close", "median return"} <= set(scores["model"])


def test_the_new_baseline_is_among_those_that_are_allowed(copy):
    assert "median return" in copy.python("backtest.py", "models=[nothing]", code=2).stderr.split("Allowed:")[1]


def test_the_new_metric_is_in_the_tables_and_in_mlflow(copy, trained):
    scores, steps = pd.read_csv(trained / "scores.csv"), pd.read_csv(trained / "steps.csv")
    assert scores["bias"].notna().all()
    assert steps["bias"].notna().all()
    [model] = scores.loc[scores["forecaster"] == "model", "bias"]
    with closing(sqlite3.connect(copy.home / "mlruns/mlflow.db")) as database:
        tracked = "select value from latest_metrics join runs using (run_uuid) where key = 'bias' and name = ?"
        [[value]] = database.execute(tracked, [trained.name]).fetchall()
    assert value == pytest.approx(model, abs=1e-6)
