import subprocess
import sys

import mlflow
import pytest

from pregao.errors import NoModel
from pregao.settings import settings
from pregao.tracking import registry, runs


def status(run):
    return mlflow.MlflowClient(settings().tracking_uri).get_run(run.run_id).info.status


def test_a_run_ends_as_what_happened(home, vale3):
    with runs.start_run(vale3, "good") as good:
        pass
    with pytest.raises(ValueError, match="oops"), runs.start_run(vale3, "bad") as bad:
        raise ValueError("oops")
    with pytest.raises(KeyboardInterrupt), runs.start_run(vale3, "stopped") as stopped:
        raise KeyboardInterrupt
    assert [status(run) for run in (good, bad, stopped)] == ["FINISHED", "FAILED", "KILLED"]


def test_a_stock_without_a_model_is_told_who_has_one(home, vale3):
    with pytest.raises(NoModel, match=r"VALE3: no trained model; there is none .*python train\.py stock=VALE3"):
        registry.champion(vale3)
    assert registry.served_stocks() == []


def test_figures_that_are_not_finite_are_left_out(home, vale3):
    with runs.start_run(vale3, "run") as run:
        run.metrics({"good": 1.5, "bad": float("nan"), "worse": float("inf")})
    assert mlflow.MlflowClient(settings().tracking_uri).get_run(run.run_id).data.metrics == {"good": 1.5}


def test_a_long_history_is_logged_whole(home, vale3):
    with runs.start_run(vale3, "run") as run:
        run.history({"history_val_loss": [float(i) for i in range(2500)]})
    points = mlflow.MlflowClient(settings().tracking_uri).get_metric_history(run.run_id, "history_val_loss")
    assert [point.value for point in points] == [float(i) for i in range(2500)]


def test_a_deleted_experiment_comes_back(home, vale3):
    with runs.start_run(vale3, "first"):
        pass
    client = mlflow.MlflowClient(settings().tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("VALE3").experiment_id)
    with runs.start_run(vale3, "second") as run:
        pass
    assert status(run) == "FINISHED"


@pytest.mark.slow
def test_processes_that_start_at_once_make_one_database(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = "from pregao.tracking import registry; print(registry.champions())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ["{}"] * 4
    assert [process.returncode for process in started] == [0] * 4
