"""Sweeps: python train.py -m …, by every launcher; and what they refuse."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pregao.settings import REPOSITORY
from pregao.tuning.sweep import JobResult, differing, tabulate
from tests.conftest import SMALL, environment, random_walk, run


@pytest.fixture
def prices(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    for seed, stock in enumerate(("ITUB4", "PETR4")):
        random_walk(seed=seed).to_csv(folder / f"{stock}.csv", index=False)
    return folder


def small(prices):
    return (*SMALL, "stock=PETR4", "source=csv", f"source.path={prices}", "end=2024-12-30", "trainer.max_epochs=1")


def query(home, sql):
    with sqlite3.connect(home / "mlruns/mlflow.db") as database:
        return database.execute(sql).fetchall()


def folder_of(done):
    """The last line of stdout."""
    return Path(done.stdout.splitlines()[-1])


def refused(*arguments, home):
    done = run("train.py", *arguments, home=home)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def outcome(number, override, **figures):
    metrics = {"val_pinball": 1.0, "final_mape": 1.0} | figures
    return JobResult(number, ["stock=PETR4", override], "PETR4", "run", metrics)


# the table


def test_the_best_on_validation_is_first_whatever_the_test_part_says():
    good = outcome(0, "seed=1", val_pinball=2.0, final_mape=1.0)
    better = outcome(1, "seed=2", val_pinball=1.0, final_mape=9.0)
    failed = JobResult(2, ["stock=PETR4", "seed=3"], "PETR4", reason="no prices")
    table = tabulate([failed, good, better], "val_pinball")
    assert table["job"].tolist() == [1, 0, 2]
    assert table["reason"].tolist()[2] == "no prices"


def test_only_what_differs_has_a_column():
    assert differing([outcome(0, "seed=1"), outcome(1, "seed=2")]) == ["seed"]


def test_a_table_of_failures_alone_can_be_written():
    table = tabulate([JobResult(0, ["seed=1"], "PETR4", reason="no prices")], "val_pinball")
    assert table["val_pinball"].isna().all()


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    written = outcome(3, "seed=1")
    written.write(tmp_path)
    assert JobResult.read(tmp_path) == written
    assert JobResult.read(tmp_path / "nothing") is None


# refusals


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("sweep.metric=final_mape", "seed=1,2"), "sweep.metric='final_mape': should be 'val_pinball', 'val_mape' or"),
        ((), "The sweep is empty: no setting has two values."),
        (
            ("seed=1,2", "hydra/launcher=ray", "+hydra.launcher.ray.init.address=127.0.0.1:9"),
            "hydra.launcher.ray.init.address=127.0.0.1:9: no Ray cluster answers there (",
        ),
    ],
    ids=["an unknown metric", "an empty space", "a dead Ray address"],
)
def test_what_no_job_could_do_is_refused_before_the_first(home, prices, given, said):
    started = time.monotonic()
    assert refused("-m", *small(prices), *given, home=home).startswith(said)
    assert time.monotonic() - started < 30
    assert not list(home.glob("outputs/multirun/*"))


# jobs


@pytest.fixture(scope="module")
def swept(tmp_path_factory, empty_database):
    """A home after a sweep over two stocks and two sizes, of which one stock fails; the command; how it ended."""
    home, prices = tmp_path_factory.mktemp("swept"), tmp_path_factory.mktemp("prices")
    (home / "mlruns").mkdir()
    (home / "mlruns/mlflow.db").write_bytes(empty_database.read_bytes())
    random_walk().to_csv(prices / "PETR4.csv", index=False)
    command = ("-m", *small(prices), "stock=PETR4,PETR9", "model.hidden_size=3,4", "hydra/launcher=joblib")
    return home, command, run("train.py", *command, home=home), prices


@pytest.mark.slow
def test_jobs_are_children_of_one_parent_a_stock_and_none_is_served(swept):
    home, _, done, _ = swept
    folder = folder_of(done)
    tags = "select t.run_uuid, t.value from tags t where t.key = '{}'"
    assert {value for _, value in query(home, tags.format("sweep_id"))} == {folder.name}
    parents = dict(query(home, tags.format("sweep_role")))
    assert len(parents) == 2
    children = dict(query(home, tags.format("mlflow.parentRunId")))
    assert len(children) == 2
    assert set(children.values()) <= set(parents)
    assert dict(query(home, tags.format("promoted"))) == dict.fromkeys(children, "False")
    assert query(home, "select * from registered_model_aliases") == []
    assert sorted(status for (status,) in query(home, "select status from runs")) == ["FAILED", *["FINISHED"] * 3]


@pytest.mark.slow
def test_a_failed_job_stops_no_other_and_is_listed(swept):
    _, _, done, _ = swept
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("PETR9: csv knows no such stock")
    assert "So job 1 (model.hidden_size=3 stock=PETR9) failed, and 1 more failed" in said
    table = pd.read_csv(folder_of(done) / "sweep.csv")
    assert table["reason"].notna().tolist() == [False, False, True, True]
    assert table["val_pinball"].head(2).is_monotonic_increasing
    assert {"model.hidden_size", "final_mape", "skill_mape", "run_id"} <= set(table)


@pytest.mark.slow
def test_jobs_begin_afresh_wherever_the_shared_model_would_fit(swept):
    _, _, done, _ = swept
    configs = [json.loads(path.read_text()) for path in folder_of(done).glob("*/config.json")]
    assert [(config["train"]["init"], config["promote"]) for config in configs] == [("none", "never")] * 2


@pytest.mark.slow
def test_a_sweep_is_gone_on_with_where_it_was_left(swept):
    home, command, done, prices = swept
    folder = folder_of(done)
    random_walk(seed=1).to_csv(prices / "PETR9.csv", index=False)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("[01]/metrics.json")}
    again = run("train.py", *command, f"hydra.sweep.dir={folder}", home=home)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert pd.read_csv(folder / "sweep.csv")["reason"].isna().all()
    said = refused(*command, f"hydra.sweep.dir={folder}", "seed=1", home=home)
    assert said.startswith(f"hydra.sweep.dir={folder}: another sweep was begun there")


@pytest.mark.slow
def test_ctrl_c_ends_with_the_command_that_goes_on(home, prices):
    long = ("trainer.max_epochs=1000000", "trainer.patience=null", "seed=1,2")
    command = [sys.executable, str(REPOSITORY / "train.py"), "-m", *small(prices), *long]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment(home), start_new_session=True, **pipes)
    try:
        patience = time.monotonic() + 60
        while not list(home.glob("outputs/multirun/*/0/checkpoints/last.ckpt")):
            assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    [folder] = home.glob("outputs/multirun/*")
    assert process.returncode == 130
    assert stderr.splitlines()[-1].endswith(f"The same command with hydra.sweep.dir={folder} goes on.")
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_the_grid_of_conf_is_swept_without_further_words(home, prices):
    typed = ("model.hidden_size=3,4", "optimizer.learning_rate=1e-3")  # takes the place of the grid's
    done = run("train.py", "sweep=grid", *small(prices), *typed, home=home)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(folder_of(done) / "sweep.csv")) == 2


@pytest.fixture
def cluster(home):
    """Ray's address: a head and a second node on this machine, a worker process each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed here")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own processes warn of what it will change
def test_a_ray_cluster_of_two_workers_does_the_same_sweep(home, prices, cluster):
    address = f"+hydra.launcher.ray.init.address={cluster}"
    command = ("-m", *small(prices), "stock=PETR4,ITUB4", "model.hidden_size=3,4")
    ray, basic = (run("train.py", *command, *more, home=home) for more in (("hydra/launcher=ray", address), ()))
    assert ray.returncode == basic.returncode == 0, ray.stderr
    tables = [pd.read_csv(folder_of(done) / "sweep.csv").set_index("job") for done in (ray, basic)]
    same = ["stock", "model.hidden_size", "val_pinball", "final_mape"]
    pd.testing.assert_frame_equal(tables[0][same].sort_index(), tables[1][same].sort_index())
