"""tune.py: Optuna over the Pipeline, by validation alone; what it refuses; many workers on one storage."""

import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time

import mlflow
import optuna
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pregao.cli import command as cli
from pregao.config import parse
from pregao.errors import InvalidChoice, StudyUnavailable
from pregao.settings import REPOSITORY, settings
from pregao.tuning.config import TuneConfig
from pregao.tuning.search import Search
from pregao.tuning.space import distributions
from tests.conftest import SMALL, environment, random_walk, run, settle
from tests.postgres import postgres  # noqa: F401 - a fixture

SPACE = "sweep.space={model.hidden_size: 'choice(3, 4, 5)', optimizer.learning_rate: 'tag(log, interval(1e-4, 1e-2))'}"
ONLY_SIZE = {"model.hidden_size": "choice(3, 4, 5)"}


def configure(prices, *overrides, space=None):
    """A search through sizes of VALE3's network."""
    with initialize_config_dir(str(cli.CONF), version_base=None):
        chosen = [*SMALL, "source=csv", f"source.path={prices}", "end=2024-12-30", "trials=3", *overrides]
        values = compose("tune", chosen)
        values.sweep.space = ONLY_SIZE if space is None else space
        return parse(TuneConfig, values)


def search(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    return Search(config, folder, ["stock=VALE3", "trials=3", "sweep.metric=val_mape", "start=2015-01-01"]).run()


def runs_of(stock):
    client = mlflow.MlflowClient(settings().tracking_uri)
    return client.search_runs([client.get_experiment_by_name(stock).experiment_id])


# the space


def test_ranges_are_read_as_hydra_writes_them():
    assert distributions(
        {
            "model.hidden_size": "choice(8, 16)",
            "model.cell": "choice(lstm, 'gru')",
            "model.num_layers": "range(1, 4)",
            "data.lookback": "range(10, 30, 7)",
            "model.dropout": "interval(0.0, 0.4)",
            "optimizer.learning_rate": "tag(log, interval(1e-4, 1e-2))",
        }
    ) == {
        "model.hidden_size": CategoricalDistribution([8, 16]),
        "model.cell": CategoricalDistribution(["lstm", "gru"]),
        "model.num_layers": IntDistribution(1, 3),
        "data.lookback": IntDistribution(10, 24, step=7),
        "model.dropout": FloatDistribution(0, 0.4),
        "optimizer.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "sweep.space is empty: there is nothing to search."),
        ({"model.hidden_size": "40"}, "sweep.space.model.hidden_size=40: one value is no range. Allowed are choice"),
        ({"model.hidden_size": "choice("}, "sweep.space.model.hidden_size=choice(: "),
        ({"model.dropout": "interval(0.4, 0.1)"}, "sweep.space.model.dropout=interval(0.4, 0.1): "),
        (
            {"stock": "choice(VALE3, PETR4)"},
            "sweep.space.stock: it cannot be searched, since trials",
        ),
        ({"model.hiden_size": "choice(3, 4)"}, "model.hiden_size: there is no such setting"),
        ({"model.dropout": "interval(0.5, 1.5)"}, "model.dropout=1.5: should be less than 1"),
    ],
    ids=str,
)
def test_a_space_that_cannot_be_searched_is_refused_before_the_first_trial(tmp_path, prices, space, said):
    with pytest.raises(InvalidChoice) as refused:
        Search(configure(prices, space=space), tmp_path)
    assert str(refused.value).startswith(said)


def test_trials_of_many_processes_are_refused(tmp_path, prices):
    with pytest.raises(InvalidChoice, match=r"^trainer\.devices=2: a trial is given up in one process"):
        Search(configure(prices, "trainer=ddp"), tmp_path)


def test_a_training_does_not_pass_over_a_space_in_silence(home):
    done = run("train.py", "sweep=optuna", home=home)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("sweep=optuna is a space for tune.py to search")


# a search


@pytest.fixture(scope="module")
def finished(tmp_path_factory, empty_database):
    """A search of three trials, during which the test part must not be evaluated, and its home."""
    base = tmp_path_factory.mktemp("finished")
    random_walk().to_csv(base / "VALE3.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        evaluated = "pregao.training.steps.evaluate_model"
        patch.setattr(evaluated, lambda *_: pytest.fail("the test part was evaluated"))
        return search(home / "outputs/tune/1", configure(base)), home, base


@pytest.fixture
def searched(finished, tmp_path, monkeypatch):
    """A copy of that home, with its prices."""
    _, home, prices = finished
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PREGAO_HOME", str(shutil.copytree(home, tmp_path / "home")))
    return prices


def test_it_searches_by_validation_and_keeps_everything(finished, searched):
    found, *_ = finished
    table = pd.read_csv(found.folder / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3
    assert table["val_pinball"].is_monotonic_increasing
    best = table.loc[0, "model.hidden_size"]
    assert shlex.split(found.command) == shlex.split(
        f"python train.py stock=VALE3 start=2015-01-01 train.init=none model.hidden_size={best}"
    )
    for picture in ("history.png", "importance.png"):
        assert (found.folder / picture).read_bytes().startswith(b"\x89PNG")
    runs = runs_of("VALE3")
    children = [one for one in runs if "mlflow.parentRunId" in one.data.tags]
    [parent] = [one for one in runs if one.data.tags.get("sweep_role") == "parent"]
    assert len(children) == 3
    assert {one.data.tags["mlflow.parentRunId"] for one in children} == {parent.info.run_id}
    assert parent.data.tags["command"] == found.command
    assert not any("mape_step_1" in one.data.metrics for one in children)


def test_a_study_continues_until_it_has_its_trials(searched, tmp_path):
    assert len(search(tmp_path / "two", configure(searched, "trials=4")).trials) == 4
    assert len(search(tmp_path / "three", configure(searched, "trials=4")).trials) == 4


@pytest.mark.slow
def test_the_same_seed_searches_the_same_trials_even_when_interrupted(home, prices, tmp_path):
    whole = search(tmp_path / "whole", configure(prices, "study=whole")).trials
    search(tmp_path / "half", configure(prices, "study=half", "trials=2"))
    resumed = search(tmp_path / "rest", configure(prices, "study=half")).trials
    pd.testing.assert_frame_equal(whole, resumed)


def test_a_study_with_another_space_or_other_prices_is_refused(searched, tmp_path):
    for other in (
        configure(searched, space={"model.hidden_size": "choice(3, 4)"}),
        configure(searched, "start=2020-01-01"),
        configure(searched, "sweep.metric=val_mape"),
    ):
        with pytest.raises(InvalidChoice, match=r"^study=VALE3: it was begun with other choices or another space \("):
            search(tmp_path / "two", other)


def test_a_bad_trial_is_pruned_and_its_run_says_so(home, prices, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    found = search(tmp_path / "out", configure(prices))
    assert found.trials.set_index("trial").loc[1, "state"] == "pruned"
    assert found.trials.set_index("trial").loc[1, "epochs"] == 1
    tags = [one.data.tags for one in runs_of("VALE3")]
    assert [one["trial"] for one in tags if one.get("pruned") == "True"] == ["1"]


def test_a_trial_that_diverges_does_not_end_the_search(home, prices, tmp_path):
    space = {"optimizer.learning_rate": "choice(1e-3, 1e30)"}
    found = search(tmp_path / "out", configure(prices, "trials=6", space=space))
    assert set(found.trials["state"]) == {"complete", "fail"}
    assert found.trials["reason"].dropna().str.startswith("The training diverged").all()
    assert "optimizer.learning_rate=0.001" in found.command


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:9/studies", "storage=postgresql://…@127.0.0.1:9/studies cannot be used ("),
        ("sqlite:////proc/no/studies.db", "storage=sqlite:////proc/no/studies.db cannot be used ("),
        ("bogus://x", "storage=bogus://x cannot be used ("),
    ],
)
def test_a_storage_out_of_reach_is_named_in_seconds_without_its_password(home, prices, tmp_path, storage, said):
    started = time.monotonic()
    with pytest.raises(StudyUnavailable) as refused:
        search(tmp_path / "out", configure(prices, f"storage='{storage}'"))
    assert time.monotonic() - started < 20
    assert str(refused.value).startswith(said)
    assert "secret" not in str(refused.value)


def test_a_sweep_of_searches_is_refused(home):
    done = run("tune.py", "-m", "seed=1,2", home=home)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("tune.py searches by itself")


# as a person runs it


@pytest.mark.slow
def test_the_command_that_it_prints_trains_with_the_best(home, prices):
    small = (*SMALL, "source=csv", f"source.path={prices}", "end=2024-12-30")
    done = run("tune.py", *small, "trials=2", SPACE, home=home)
    assert done.returncode == 0, done.stderr
    command, folder = done.stdout.splitlines()[-2:]
    best = pd.read_csv(f"{folder}/trials.csv").loc[0, "val_pinball"]
    _, program, *arguments = shlex.split(command)
    trained = run(program, *arguments, home=home)
    assert trained.returncode == 0, trained.stderr
    with open(f"{trained.stdout.splitlines()[-1]}/metrics.json", encoding="utf-8") as file:
        assert json.load(file)["val_pinball"] == pytest.approx(best, rel=1e-5)


@pytest.fixture
def studies(postgres):  # noqa: F811
    """The address of a database that is empty."""
    postgres.run("createdb", "-h", "127.0.0.1", "-p", postgres.port, "-U", "pregao", "studies")
    yield postgres.uri.replace("/postgres", "/studies")
    postgres.run("dropdb", "-h", "127.0.0.1", "-p", postgres.port, "-U", "pregao", "studies")


@pytest.mark.slow
def test_two_workers_share_a_study_on_postgresql(home, prices, studies):
    small = (*SMALL, "source=csv", f"source.path={prices}", "end=2024-12-30", "trainer.max_epochs=1")
    command = [sys.executable, str(REPOSITORY / "tune.py"), *small, "trials=8", f"storage='{studies}'", SPACE]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, env=environment(home), **pipes) for _ in range(2)]
    for worker in workers:
        _, stderr = worker.communicate(timeout=200)
        assert worker.returncode == 0, stderr
    storage = optuna.storages.RDBStorage(studies)
    [study] = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    assert len(trials) in (8, 9)  # the one may begin its last while the other is at its own
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["optimizer.learning_rate"] for trial in trials}) == len(trials)
    with sqlite3.connect(home / "mlruns/mlflow.db") as database:
        [(children,)] = database.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchall()
    assert children == len(trials)
