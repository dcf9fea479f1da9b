"""The recipes of CONTRIBUTING.md, executed unchanged in a copy of the code: files, commands, results."""

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
from tests.golden import in_one_process

pytestmark = pytest.mark.slow

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

FILES = re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", TEXT, flags=re.DOTALL)
"""Paths and their blocks."""

COMMANDS = [shlex.split(command) for command in re.findall(r"`python ((?:train|backtest)\.py [^`]+)`", TEXT)]

SMALL = ("model.hidden_size=4", "trainer.max_epochs=1")


def block(start):
    """The code block that starts with a text and is not a file of the repository."""
    [found] = re.findall(rf"```\w+\n({re.escape(start)}.*?)```", TEXT, flags=re.DOTALL)
    return found


def command(start, *more):
    """A command of a recipe, such as `["train", "model=dense"]`, with more overrides."""
    [found] = [words for words in COMMANDS if words[1].startswith(start)]
    return [found[0].removesuffix(".py"), *found[1:], *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_database):
    """`code` after every recipe, `site-packages` with another package's model, `home`, and `prices` as Parquet."""
    folder = tmp_path_factory.mktemp("recipes")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "conf"):
        shutil.copytree(REPOSITORY / name, folder / "code" / name, ignore=ignored)
    for name in ("train.py", "backtest.py"):
        shutil.copy(REPOSITORY / name, folder / "code")
    for path, text in FILES:
        file = folder / "code" / path
        previous = f"{file.read_text(encoding='utf-8')}\n\n" if file.exists() else ""
        assert bool(previous) == (f"At the end of `{path}`" in TEXT)
        file.write_text(previous + text, encoding="utf-8")
    entries = tomllib.loads(block("[project.entry-points"))["project"]["entry-points"]
    metadata = folder / "site-packages/other-1.0.dist-info"
    for path in metadata, folder / "site-packages/other":
        path.mkdir(parents=True)
    groups = [
        f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in found.items())
        for group, found in entries.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (folder / "site-packages/other/dense.py").write_text(dict(FILES)["src/pregao/models/dense.py"])
    (folder / "home/mlruns").mkdir(parents=True)
    shutil.copy(empty_database, folder / "home/mlruns")
    (folder / "prices").mkdir()
    random_walk().to_parquet(folder / "prices/VALE3.parquet")
    return folder


def search_path(folder):
    return f"{folder / 'code/src'}:{folder / 'site-packages'}"


@pytest.fixture(scope="module")
def ran(folder):
    """Exit code and stdout of the recipes' commands, by name."""
    parquet = ("source=parquet", f"source.path={folder / 'prices'}", "start=2015-01-01", "end=2024-12-30", *SMALL)
    [train, *words] = command("source=parquet")
    assert words == ["source=parquet", "source.path=DIR"]
    sample = ("stock=SP500", "source=sample", "start=2016-01-01", "end=2018-12-31", *SMALL)
    commands = {
        "model": command("model=dense", *sample),
        "source": [train, *parquet, "model=other_dense"],
        "unknown stock": [train, *parquet, "stock=PETR4"],
        "baseline": command("models=", *parquet, "first_cutoff=2024-07-01"),
    }
    answers = in_one_process(list(commands.values()), folder / "home", folder / "code", PYTHONPATH=search_path(folder))
    return dict(zip(commands, answers, strict=True))


def left_by(answer):
    code, out = answer
    assert code == 0
    return Path(out.splitlines()[-1])


OFFERED = """
import json
from pregao.training.overrides import overrides_class
print(json.dumps(overrides_class().model_json_schema(by_alias=True)["properties"]))
"""
"""Prints the choices that POST /train and the dashboard offer."""


def test_a_new_model_is_trained_offered_and_satisfies_the_contract(folder, ran):
    card = json.loads((left_by(ran["model"]) / "model/model.json").read_text())
    assert card["network"] == {
        "_target_": "pregao.models.dense.DenseModel",
        **{"hidden_size": 4, "leak": 0.2, "horizon": 10, "inputs": "panel", "lookback": 20},
    }
    code = block("from pregao.models.dense import") + OFFERED
    env = environment(folder / "home", PYTHONPATH=search_path(folder))
    done = subprocess.run([sys.executable, "-c", code], check=True, env=env, stdout=subprocess.PIPE, text=True)
    offered = json.loads(done.stdout)
    assert {"dense", "other_dense"} <= set(offered["model"]["anyOf"][0]["enum"])
    assert offered["model.leak"]["anyOf"][0] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}


def test_a_new_source_is_read_and_a_model_of_another_package_trained(ran):
    folder = left_by(ran["source"])
    assert json.loads((folder / "model/model.json").read_text())["network"]["_target_"] == "other.dense.DenseModel"
    assert pd.read_csv(folder / "evaluation.csv")["date"].max() == "2024-12-30"
    assert ran["unknown stock"][0] == 2


def test_a_new_baseline_is_compared_in_a_backtest(ran):
    scores = pd.read_csv(left_by(ran["baseline"]) / "scores.csv")
    assert {"own", "last close", "median return"} <= set(scores["model"])


def test_a_new_metric_is_in_the_tables_and_in_mlflow(folder, ran):
    run = left_by(ran["model"])
    scores, steps = pd.read_csv(run / "scores.csv"), pd.read_csv(run / "steps.csv")
    assert scores["bias"].notna().all()
    assert steps["bias"].notna().all()
    [model] = scores.loc[scores["forecaster"] == "model", "bias"]
    with closing(sqlite3.connect(folder / "home/mlruns/mlflow.db")) as database:
        tracked = "select value from latest_metrics join runs using (run_uuid) where key = 'bias' and name = ?"
        [[value]] = database.execute(tracked, [run.name]).fetchall()
    assert value == pytest.approx(model, abs=1e-6)
