import json

import pandas as pd
import pytest

from pregao.tuning.sweep import JobResult, differing, tabulate
from tests.cli.conftest import command, folder_of, query, sentence  # noqa: F401 - a fixture among them
from tests.conftest import SMALL, prices_in, random_walk, run, settle


@pytest.fixture
def prices(tmp_path):
    return prices_in(tmp_path / "prices", "PETR4")


def small(prices):
    return (*SMALL, "stock=PETR4", "source=csv", f"source.path={prices}", "end=2024-12-30", "trainer.max_epochs=1")


def job(number, *overrides, stock="PETR4", reason=None, **metrics):
    metrics = {} if reason else {"val_pinball": 1.0, "final_mape": 1.0} | metrics
    return JobResult(number, [f"stock={stock}", *overrides], stock, "run", metrics, reason)


def test_the_best_validation_metric_of_a_stock_is_first_and_failed_jobs_are_last():
    good, better = job(0, "seed=1", val_pinball=2.0), job(1, "seed=2", final_mape=9.0)
    failed = job(2, "seed=3", reason="no prices")
    table = tabulate([failed, good, better], "val_pinball")
    assert table["job"].tolist() == [1, 0, 2]
    assert table["reason"].tolist()[2] == "no prices"
    assert differing([good, better]) == ["seed"]
    assert tabulate([failed], "val_pinball")["val_pinball"].isna().all()
    other = job(3, stock="VALE3", val_pinball=1.5)
    assert tabulate([other, good, better], "val_pinball")["job"].tolist() == [1, 0, 3]


def test_a_resumed_sweep_trains_only_jobs_that_failed_or_have_other_settings(command, home, prices, tmp_path):  # noqa: F811
    last = {text.partition("=")[0]: text for text in small(prices)}  # of two overrides for a key the last one
    for number, (seed, reason) in enumerate(((1, None), (9, None), (3, "no prices"))):
        (folder := tmp_path / "sweep" / str(number)).mkdir(parents=True)
        given = [*last.values(), f"seed={seed}"]
        JobResult(number, given, "PETR4", "run", job(number).metrics, reason).write(folder)
    done = command("train", "-m", *small(prices), "seed=1,2,3", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("sweep/*/metrics.json")) == ["1", "2"]
    assert "Job 0 is already done" in done.stderr


def test_the_grid_of_conf_is_swept_with_the_basic_launcher(command, home, prices):  # noqa: F811
    typed = ("model.hidden_size=3,4", "optimizer.learning_rate=1e-3")  # replace those of the grid
    done = command("train", "sweep=grid", *small(prices), *typed)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(folder_of(done) / "sweep.csv")) == 2


@pytest.fixture(scope="module")
def swept(tmp_path_factory, empty_database):
    """A home after a sweep over two stocks, one of them unknown, and two sizes; the arguments; the finished process."""
    base = tmp_path_factory.mktemp("swept")
    prices = prices_in(base / "prices", "PETR4")
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
    arguments = ("-m", *small(prices), "stock=PETR4,PETR9", "model.hidden_size=3,4", "hydra/launcher=joblib")
    return home, arguments, run("train.py", *arguments, home=home), prices


@pytest.mark.slow
def test_jobs_are_children_of_one_parent_per_stock_and_none_is_served(swept):
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
    configs = [json.loads(path.read_text()) for path in folder.glob("*/config.json")]
    assert [(config["train"]["init"], config["promote"]) for config in configs] == [("none", "never")] * 2


@pytest.mark.slow
def test_a_failed_job_is_listed_and_trained_when_the_sweep_is_resumed(swept, command, monkeypatch):  # noqa: F811
    home, arguments, done, prices = swept
    folder = folder_of(done)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    table = pd.read_csv(folder / "sweep.csv")
    assert table["reason"].notna().tolist() == [False, False, True, True]
    assert table["val_pinball"].head(2).is_monotonic_increasing
    assert {"model.hidden_size", "final_mape", "skill_mape", "run_id"} <= set(table)
    random_walk(seed=1).to_csv(prices / "PETR9.csv", index=False)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("[01]/metrics.json")}
    monkeypatch.setenv("PREGAO_HOME", str(home))
    again = command("train", *arguments, "hydra/launcher=basic", f"hydra.sweep.dir={folder}")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert pd.read_csv(folder / "sweep.csv")["reason"].isna().all()


@pytest.fixture
def cluster(home):
    """The address of a Ray cluster of two nodes on this machine, with one worker process each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed here")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's processes warn of future changes
def test_a_ray_cluster_of_two_workers_gives_the_same_results(command, home, prices, cluster):  # noqa: F811
    arguments = ("-m", *small(prices), "model.hidden_size=3,4")
    address = f"+hydra.launcher.ray.init.address={cluster}"
    ray = run("train.py", *arguments, "hydra/launcher=ray", address, home=home)
    basic = command("train", *arguments)
    assert ray.returncode == basic.returncode == 0, ray.stderr
    tables = [pd.read_csv(folder_of(done) / "sweep.csv").set_index("job").sort_index() for done in (ray, basic)]
    same = ["stock", "model.hidden_size", "val_pinball", "final_mape"]
    pd.testing.assert_frame_equal(*(table[same] for table in tables))


@pytest.mark.parametrize("key", ["data.horizon=5,10", "data.price=adjusted,close"])
def test_a_sweep_over_what_a_score_measures_is_refused(command, home, prices, key):  # noqa: F811
    assert f"{key.partition('=')[0]} has several values" in sentence(command("train", "-m", *small(prices), key))
