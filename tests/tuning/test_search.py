import shlex
import shutil
import sqlite3
import subprocess
import sys

import mlflow
import optuna
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from pregao.config import CONF, parse
from pregao.errors import InvalidChoice, StudyUnavailable
from pregao.settings import REPOSITORY, settings
from pregao.tuning.config import TuneConfig
from pregao.tuning.search import Search, tabulate
from pregao.tuning.space import distributions
from tests.conftest import SMALL, environment, random_walk, settle
from tests.postgres import postgres  # noqa: F401 - a fixture

TWO = {"model.hidden_size": "choice(3, 4, 5)", "optimizer.learning_rate": "tag(log, interval(1e-4, 1e-2))"}


def configure(prices, *overrides, space=TWO):
    """A search for VALE3's network."""
    with initialize_config_dir(str(CONF), version_base=None):
        chosen = [*SMALL, "source=csv", f"source.path={prices}", "end=2024-12-30", "trials=3", *overrides]
        values = compose("tune", chosen)
        values.sweep.space = space
        return parse(TuneConfig, values)


def search(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    return Search(config, folder, ["stock=VALE3", "trials=3", "sweep.metric=val_mape", "start=2015-01-01"]).run()


def runs_of(stock):
    client = mlflow.MlflowClient(settings().tracking_uri)
    return client.search_runs([client.get_experiment_by_name(stock).experiment_id])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choice(lstm, 'gru')", CategoricalDistribution(["lstm", "gru"])),
        ("choice(8, 16)", CategoricalDistribution([8, 16])),
        ("range(1, 4)", IntDistribution(1, 3)),
        ("range(10, 30, 7)", IntDistribution(10, 24, step=7)),
        ("interval(0.0, 0.4)", FloatDistribution(0, 0.4)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_ranges_are_parsed_in_hydras_syntax(text, expected):
    assert distributions({"data.lookback": text}) == {"data.lookback": expected}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "sweep.space is empty: "),
        ({"model.hidden_size": "40"}, "sweep.space.model.hidden_size=40: one value is not a range."),
        ({"model.hidden_size": "choice("}, "sweep.space.model.hidden_size=choice(: "),
        ({"model.dropout": "interval(0.4, 0.1)"}, "sweep.space.model.dropout=interval(0.4, 0.1): "),
        ({"stock": "choice(VALE3, PETR4)"}, "sweep.space.stock: it cannot be searched"),
        ({"model.hiden_size": "choice(3, 4)"}, "model.hiden_size: "),
        ({"model.dropout": "interval(0.5, 1.5)"}, "model.dropout=1.5: should be less than 1"),
    ],
    ids=str,
)
def test_an_invalid_space_is_refused_before_the_first_trial(tmp_path, prices, space, said):
    with pytest.raises(InvalidChoice) as refused:
        Search(configure(prices, space=space), tmp_path)
    assert str(refused.value).startswith(said)


def test_the_table_has_the_best_trial_first_and_failed_ones_last():
    trials = [create_trial(state=TrialState.FAIL), *(create_trial(value=value) for value in (2.0, 1.0, 1.0))]
    for number, trial in enumerate(trials):
        trial.number = number
    assert tabulate(trials, "val_mape")["trial"].tolist() == [2, 3, 1, 0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, empty_database):
    """A search of three trials that never evaluates the test part, its home and its prices."""
    base = tmp_path_factory.mktemp("finished")
    random_walk().to_csv(base / "VALE3.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        evaluated = "pregao.training.steps.evaluate_model"
        patch.setattr(evaluated, lambda *_: pytest.fail("the test part was evaluated"))
        return search(home / "outputs/tune/1", configure(base)), home, base


def test_a_search_may_not_choose_on_the_test_windows(prices):
    with pytest.raises(InvalidChoice, match="A search would choose by them"):
        configure(prices, "evaluation.split=published", "promote=never")


def test_trials_with_different_lookbacks_are_compared_on_the_same_windows(tmp_path, prices, home, monkeypatch):
    compared = []
    validate = "pregao.tuning.search.validate"
    kept = lambda _, panel: compared.append(panel.split.validation) or {"val_mape": 1.0, "val_pinball": 1.0}  # noqa: E731
    monkeypatch.setattr(validate, kept)
    search(tmp_path / "search", configure(prices, "trials=4", space={"data.lookback": "choice(5, 40)"}))
    assert {windows.inputs.shape[1] for windows in compared} == {5, 40}
    assert len({windows.dates.tobytes() for windows in compared}) == 1


@pytest.fixture
def searched(finished, tmp_path, monkeypatch):
    """A copy of that home, with its prices."""
    _, home, prices = finished
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PREGAO_HOME", str(shutil.copytree(home, tmp_path / "home")))
    return prices


def test_a_search_writes_its_trials_its_plots_and_the_command_of_the_best(finished, searched):
    found, *_ = finished
    table = pd.read_csv(found.folder / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3
    assert table["val_pinball"].is_monotonic_increasing
    assert table["optimizer.learning_rate"].nunique() == 3, "each trial draws other values"
    values = {f"{name}={found.trials.iloc[0][name]}" for name in TWO}
    given = {"python", "train.py", "stock=VALE3", "start=2015-01-01", "train.init=none"}
    assert set(shlex.split(found.command)) == given | values
    for picture in ("history.png", "importance.png"):
        assert (found.folder / picture).read_bytes().startswith(b"\x89PNG")
    runs = runs_of("VALE3")
    children = [one for one in runs if "mlflow.parentRunId" in one.data.tags]
    [parent] = [one for one in runs if one.data.tags.get("sweep_role") == "parent"]
    assert len(children) == 3
    assert {one.data.tags["mlflow.parentRunId"] for one in children} == {parent.info.run_id}
    assert parent.data.tags["command"] == found.command
    assert not any("mape_step_1" in one.data.metrics for one in children)


def test_a_resumed_study_has_the_trials_of_an_uninterrupted_one(finished, home, tmp_path):
    search(tmp_path / "half", configure(finished[2], "trials=2"))
    for name in ("rest", "again"):
        resumed = search(tmp_path / name, configure(finished[2])).trials
        pd.testing.assert_frame_equal(finished[0].trials, resumed)


def test_a_study_with_another_space_dates_or_metric_is_refused(searched, tmp_path):
    changes = ([], {"space": {"model.hidden_size": "choice(3, 4)"}}), (["start=2020-01-01"], {})
    for overrides, space in (*changes, (["sweep.metric=val_mape"], {})):
        other = configure(searched, *overrides, **space)
        with pytest.raises(InvalidChoice, match=r"^study=VALE3: it has other settings or another space \("):
            search(tmp_path / "two", other)


def test_a_bad_trial_is_pruned_and_a_failed_one_does_not_end_the_search(home, prices, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    space = {"optimizer.learning_rate": "choice(1e-3, 1e30)"}
    found = search(tmp_path / "out", configure(prices, "trials=5", "trainer.max_epochs=2", space=space))
    table = found.trials.set_index("trial")
    assert set(table["state"]) == {"complete", "pruned", "fail"}
    assert (table.loc[1, "state"], table.loc[1, "epochs"]) == ("pruned", 1)
    assert found.trials["reason"].dropna().str.startswith("The training diverged").all()
    assert "optimizer.learning_rate=0.001" in found.command
    tags = [one.data.tags for one in runs_of("VALE3")]
    assert [one["trial"] for one in tags if one.get("pruned") == "True"] == ["1"]


@pytest.mark.parametrize("storage", ["postgresql://me:secret@127.0.0.1:9/a", "sqlite:////proc/no/a.db", "bogus://x"])
def test_an_unusable_storage_is_refused_without_its_password(home, prices, tmp_path, storage):
    with pytest.raises(StudyUnavailable) as refused:
        search(tmp_path / "out", configure(prices, f"storage='{storage}'"))
    assert str(refused.value).startswith(f"storage={storage.replace('me:secret', '…')} cannot be used (")


@pytest.mark.slow
def test_two_workers_share_a_study_on_postgresql(home, prices, postgres):  # noqa: F811
    studies, space = postgres.database("studies"), ", ".join(f"{name}: '{values}'" for name, values in TWO.items())
    small = (*SMALL, "source=csv", f"source.path={prices}", "end=2024-12-30", "trainer.max_epochs=1", "trials=6")
    command = [sys.executable, str(REPOSITORY / "tune.py"), *small, f"storage='{studies}'", f"sweep.space={{{space}}}"]
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
    assert len(trials) in (6, 7)  # one worker may start its last trial during the other's
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert len({trial.params["optimizer.learning_rate"] for trial in trials}) == len(trials)
    with sqlite3.connect(home / "mlruns/mlflow.db") as database:
        [(children,)] = database.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchall()
    assert children == len(trials)
